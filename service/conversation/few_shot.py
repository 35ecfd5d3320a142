"""Labels from a few examples: ridge regression with exact leave-one-out predictions.

A line is known by its sentence vector and by what the model says of it in the labels that it was
trained on. Ridge regression to the labels has an exact answer for each example as if it had not
been there, at no cost: by it the strength of the ridge is chosen, the scores become probabilities,
and is seen whether the labels can be told apart at all.

Source: leave-one-out residuals of a linear smoother, Hastie et al. 2009, "The Elements of
Statistical Learning", section 7.10.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

# How much the model's word counts beside the sentence vector, which has length 1.
_MODEL = 2.0
# Flattens what the model says: how sure it is of its own labels says little of others.
_FLATTENED = 2.0

# Another one whenever what is below changes: what is kept is then fitted again.
VERSION = 1

_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
_SCALES = tuple(float(each) for each in np.geomspace(1, 32, 21))

# What chance alone does more often than this says nothing of labels, but for a single mistake:
# of six examples in two labels chance is right about five in a ninth of all cases.
_BY_CHANCE = 0.02
# How much of the way from chance to no mistake is the least that is worth an answer.
_BETTER = 0.3
# Of two labels that are one, less than half are taken for the right one when left out.
_PAIR = 0.3


@dataclass(frozen=True, slots=True)
class FewShot:
    """Tells labels apart.

    Attributes:
        weights: shape (features, labels).
        scale: of the scores, so that their softmax are probabilities.
    """

    weights: Floats
    scale: float

    def __call__(self, features: Floats) -> Floats:
        """The labels' probabilities, shape (..., labels), from shape (..., features)."""
        return _probabilities(features @ self.weights, self.scale)


def features(vector: npt.NDArray[np.float32], shares: Sequence[float]) -> Floats:
    """What is known of a line, shape (features,).

    Args:
        vector: its sentence vector, of length 1.
        shares: what the model says of it, a distribution over the labels that it knows.
    """
    flat = np.asarray(shares, dtype=np.float64) ** (1 / _FLATTENED)
    # Square roots of a distribution are a vector of length 1 (Hellinger); 0 where all are alike.
    said = np.sqrt(flat / flat.sum()) - math.sqrt(1 / len(flat))
    return np.concatenate([np.asarray(vector, dtype=np.float64), math.sqrt(_MODEL) * said])


def of_sentence(vector: npt.NDArray[np.float32], labels: int) -> Floats:
    """The same of a sentence that describes a label, of which the model is not asked.

    Args:
        labels: how many the model knows.
    """
    return np.concatenate([np.asarray(vector, dtype=np.float64), np.zeros(labels)])


def fit(examples: Floats, gold: Places, sentences: Floats) -> tuple[FewShot, Floats]:
    """Learn labels, and say what each example is taken for while it is left out.

    Args:
        examples: shape (n, features).
        gold: shape (n,), the place of each one's label.
        sentences: shape (labels, features), one that describes each label.

    Returns:
        What was learnt, and the probabilities of the examples left out, shape (n, labels).
    """
    count, labels = len(examples), len(sentences)
    known = np.concatenate([examples, sentences])
    wanted = np.eye(labels)[np.concatenate([gold, np.arange(labels)])] - 1 / labels
    blocks = _blocks(gold, labels)
    values, axes = np.linalg.eigh(known @ known.T)
    values = np.maximum(values, 0)
    turned = axes.T @ wanted
    best: tuple[float, float, float, Floats] | None = None
    for ridge in _RIDGES:
        kept = values / (values + ridge)
        residuals = wanted - axes @ (kept[:, None] * turned)
        smoother = (axes * kept) @ axes.T
        inside = np.eye(labels) - smoother[blocks[:, :, None], blocks[:, None, :]]
        errors = np.linalg.solve(inside, residuals[blocks])
        left_out = wanted[:count] - errors[np.arange(count), gold]
        for scale in _SCALES:
            found = _probabilities(left_out, scale)
            loss = -float(np.log(found[np.arange(count), gold]).mean())
            if best is None or loss < best[0]:
                best = loss, ridge, scale, found
    assert best is not None  # noqa: S101
    _, ridge, scale, found = best
    weights = known.T @ (axes @ (turned / (values + ridge)[:, None]))
    return FewShot(weights, scale), found


def _blocks(gold: Places, labels: int) -> Places:
    """With which others each example is left out, shape (n, labels): one of every label.

    Were it alone, its own label would be an example short, and would seem less likely than it is.
    """
    of_label = [np.flatnonzero(gold == label) for label in range(labels)]
    blocks = np.empty((len(gold), labels), np.int64)
    for members in of_label:
        for rank, example in enumerate(members):
            blocks[example] = [others[rank % len(others)] for others in of_label]
    return blocks


def _probabilities(scores: Floats, scale: float) -> Floats:
    scaled = scale * (scores - scores.max(-1, keepdims=True))
    shares = np.exp(scaled)
    found: Floats = shares / shares.sum(-1, keepdims=True)
    return found


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What examples were taken for while they were left out.

    Attributes:
        recognized: how many of each label's were taken for it, in the order of the labels.
        accuracy: the share of all of them.
        calibration_error: expected calibration error, in ten bins of equal width.
    """

    recognized: tuple[int, ...]
    accuracy: float
    calibration_error: float


def left_out(found: Floats, gold: Places) -> LeftOut:
    """Sum up what `fit` found of the examples."""
    right = found.argmax(1) == gold
    sure = found.max(1)
    bins = np.minimum((sure * 10).astype(int), 9)
    error = sum(
        abs(float(right[bins == each].mean() - sure[bins == each].mean()))
        * float((bins == each).mean())
        for each in set(bins.tolist())
    )
    recognized = tuple(int(right[gold == each].sum()) for each in range(found.shape[1]))
    return LeftOut(recognized, float(right.mean()), error)


def why_not_apart(found: Floats, gold: Places, names: Sequence[str]) -> str | None:
    """Why the examples do not tell their labels apart, and what is missing; None: they do.

    They do not where chance alone might take as many of them, left out, for their own label, where
    this is hardly more often than by chance, or where two labels are taken for each other.
    """
    right, count = int((found.argmax(1) == gold).sum()), len(gold)
    chance = float(np.bincount(gold).max()) / count
    by_chance = sum(
        math.comb(count, k) * chance**k * (1 - chance) ** (count - k)
        for k in range(right, count + 1)
    )
    apart, one, other = min(
        (_apart(found, gold, one, other), one, other)
        for one in range(len(names))
        for other in range(one + 1, len(names))
    )
    pair = f"{names[one]!r} and {names[other]!r}"
    remedy = "give more and clearer examples of both, or make one label of them"
    if (by_chance > _BY_CHANCE and count - right > 1) or right / count < chance + _BETTER * (
        1 - chance
    ):
        return (
            f"the examples do not tell the labels apart: left out, {right} of {count} are taken "
            f"for their own label, which chance alone might do; least apart are {pair}: {remedy}"
        )
    if apart < _PAIR:
        return (
            f"the examples do not tell {pair} apart: left out, {apart:.0%} of them are taken for "
            f"the right one of the two: {remedy}"
        )
    return None


def _apart(found: Floats, gold: Places, one: int, other: int) -> float:
    """The share of two labels' examples for which the right one of the two is the likelier."""
    both = (gold == one) | (gold == other)
    return float(((found[both, one] > found[both, other]) == (gold[both] == one)).mean())
