"""Labels from a few examples: ridge regression, with what it says of examples that are left out.

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

# With so small a chance labels that mean nothing are taken for some that do.
_BY_CHANCE = 0.12
# Of two labels that are one, somewhat less than half are taken for the right one when left out.
_PAIR = 0.5


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
    values, axes = np.linalg.eigh(known @ known.T)
    values = np.maximum(values, 0)
    turned = axes.T @ wanted
    best: tuple[float, float, float, Floats] | None = None
    for ridge in _RIDGES:
        kept = values / (values + ridge)
        residuals = wanted - axes @ (kept[:, None] * turned)
        own = np.einsum("ij,j,ij->i", axes, kept, axes)
        left_out = (wanted - residuals / (1 - own)[:, None])[:count]
        for scale in _SCALES:
            found = _probabilities(left_out, scale)
            # As if one more example of each label, in all, said the opposite.
            smooth = labels / (count + labels)
            logs = np.log(found)
            loss = -float(
                ((1 - smooth) * logs[np.arange(count), gold] + smooth * logs.mean(1)).mean()
            )
            if best is None or loss < best[0]:
                best = loss, ridge, scale, found
    assert best is not None  # noqa: S101
    _, ridge, scale, found = best
    weights = known.T @ (axes @ (turned / (values + ridge)[:, None]))
    return FewShot(weights, scale), found


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

    Two labels are not apart where their own examples, left out, are taken for the right one of the
    two in less than half of the cases; all of them are not, where chance would do as well.
    """
    for one in range(len(names)):
        for other in range(one + 1, len(names)):
            both = (gold == one) | (gold == other)
            right = (found[both, one] > found[both, other]) == (gold[both] == one)
            if right.mean() < _PAIR:
                return (
                    f"the examples of {names[one]!r} and {names[other]!r} do not tell these labels "
                    f"apart: left out, {int(right.sum())} of {len(right)} are taken for the right "
                    "one of the two; give more and clearer examples of both, or make one label of "
                    "them"
                )
    right = int((found.argmax(1) == gold).sum())
    count, chance = len(gold), float(np.bincount(gold).max()) / len(gold)
    by_chance = sum(
        math.comb(count, k) * chance**k * (1 - chance) ** (count - k)
        for k in range(right, count + 1)
    )
    if by_chance > _BY_CHANCE:
        return (
            f"the examples do not tell the labels apart: left out, {right} of {count} are taken "
            f"for their own label, which chance alone might do; give more examples of each label, "
            "and such as differ between labels"
        )
    return None
