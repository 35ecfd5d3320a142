"""Label spaces of a tenant's own, and the classifier that learns one from a few examples.

The classifier is a ridge regression with exact leave-one-out predictions. The features of a line
are its sentence vector and the model's distribution over the labels that it was trained on. For
ridge regression the prediction of each example as if it had been left out has a closed form and
costs nothing. These predictions select the ridge's strength and the scale that turns scores into
probabilities, and show whether the labels can be told apart at all.

Source: leave-one-out residuals of a linear smoother, Hastie et al. 2009, "The Elements of
Statistical Learning", section 7.10.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.conversation.labels import Labels, LabelSpace
from service.conversation.prediction import Prediction

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

# Weight of the model's distribution relative to the sentence vector, which has length 1.
_MODEL = 2.0
# Temperature of the model's distribution: its confidence in its own labels says little of others.
_FLATTENED = 2.0

# Increment it whenever the code below changes: stored label spaces are then fitted again.
VERSION = 1

_RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
_SCALES = tuple(float(each) for each in np.geomspace(1, 32, 21))

# A result that chance alone reaches more often than this is not significant, except with a single
# mistake: chance gets five of six examples in two labels right in a ninth of all cases.
_BY_CHANCE = 0.02
# The least accuracy worth an answer, as a share of the way from chance to no mistake.
_BETTER = 0.3
# If two labels are really one, fewer than half of their left-out examples get the right one.
_PAIR = 0.3


@dataclass(frozen=True, slots=True)
class FewShot:
    """A linear classifier of lines.

    Attributes:
        weights: shape (features, labels).
        scale: multiplies the scores before the softmax.
    """

    weights: Floats
    scale: float

    def __call__(self, features: Floats) -> Floats:
        """The labels' probabilities, shape (..., labels), from shape (..., features)."""
        return _probabilities(features @ self.weights, self.scale)


def features(vector: npt.NDArray[np.float32], shares: Sequence[float]) -> Floats:
    """The features of a line, shape (features,).

    Args:
        vector: its sentence vector, of length 1.
        shares: the model's distribution over the labels that it was trained on.
    """
    flat = np.asarray(shares, dtype=np.float64) ** (1 / _FLATTENED)
    # Square roots of a distribution are a vector of length 1 (Hellinger); 0 if it is uniform.
    model = np.sqrt(flat / flat.sum()) - math.sqrt(1 / len(flat))
    return np.concatenate([np.asarray(vector, dtype=np.float64), math.sqrt(_MODEL) * model])


def of_sentence(vector: npt.NDArray[np.float32], labels: int) -> Floats:
    """The features of a sentence that describes a label; the model does not read it.

    Args:
        labels: the number of labels that the model was trained on.
    """
    return np.concatenate([np.asarray(vector, dtype=np.float64), np.zeros(labels)])


def fit(examples: Floats, gold: Places, sentences: Floats) -> tuple[FewShot, Floats]:
    """Fit a classifier, and predict each example as if it had been left out.

    Args:
        examples: shape (n, features).
        gold: shape (n,), the index of each example's label.
        sentences: shape (labels, features), the description of each label.

    Returns:
        The classifier, and the leave-one-out probabilities, shape (n, labels).
    """
    count, labels = len(examples), len(sentences)
    rows = np.concatenate([examples, sentences])
    targets = np.eye(labels)[np.concatenate([gold, np.arange(labels)])] - 1 / labels
    blocks = _blocks(gold, labels)
    values, axes = np.linalg.eigh(rows @ rows.T)
    values = np.maximum(values, 0)
    projected_targets = axes.T @ targets
    best: tuple[float, float, float, Floats] | None = None
    for ridge in _RIDGES:
        shrinkage = values / (values + ridge)
        residuals = targets - axes @ (shrinkage[:, None] * projected_targets)
        smoother = (axes * shrinkage) @ axes.T
        inside = np.eye(labels) - smoother[blocks[:, :, None], blocks[:, None, :]]
        errors = np.linalg.solve(inside, residuals[blocks])
        left_out = targets[:count] - errors[np.arange(count), gold]
        for scale in _SCALES:
            probabilities = _probabilities(left_out, scale)
            loss = -float(np.log(probabilities[np.arange(count), gold]).mean())
            if best is None or loss < best[0]:
                best = loss, ridge, scale, probabilities
    assert best is not None  # noqa: S101
    _, ridge, scale, probabilities = best
    weights = rows.T @ (axes @ (projected_targets / (values + ridge)[:, None]))
    return FewShot(weights, scale), probabilities


def _blocks(gold: Places, labels: int) -> Places:
    """The examples left out together with each one, shape (n, labels): one of every label.

    Left out alone, its own label would be an example short, and would seem too unlikely.
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
    probabilities: Floats = shares / shares.sum(-1, keepdims=True)
    return probabilities


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Summary of the leave-one-out predictions.

    Attributes:
        recognized: the number of correct predictions per label, in the order of the labels.
        accuracy: the share of correct predictions.
        calibration_error: expected calibration error, in ten bins of equal width.
    """

    recognized: tuple[int, ...]
    accuracy: float
    calibration_error: float


def left_out(probabilities: Floats, gold: Places) -> LeftOut:
    """Summarize the leave-one-out probabilities that `fit` returns, shape (n, labels)."""
    correct = probabilities.argmax(1) == gold
    confidence = probabilities.max(1)
    bins = np.minimum((confidence * 10).astype(int), 9)
    error = sum(
        abs(float(correct[bins == bin_].mean() - confidence[bins == bin_].mean()))
        * float((bins == bin_).mean())
        for bin_ in set(bins.tolist())
    )
    recognized = tuple(int(correct[gold == bin_].sum()) for bin_ in range(probabilities.shape[1]))
    return LeftOut(recognized, float(correct.mean()), error)


def why_not_apart(probabilities: Floats, gold: Places, names: Sequence[str]) -> str | None:
    """Why the examples do not tell their labels apart, with a remedy; None if they do.

    They do not if chance alone might predict as many of them correctly when left out, if accuracy
    is hardly above chance, or if two labels are confused with each other.
    """
    correct, count = int((probabilities.argmax(1) == gold).sum()), len(gold)
    chance = float(np.bincount(gold).max()) / count
    by_chance = sum(
        math.comb(count, k) * chance**k * (1 - chance) ** (count - k)
        for k in range(correct, count + 1)
    )
    apart, first, second = min(
        (_apart(probabilities, gold, first, second), first, second)
        for first in range(len(names))
        for second in range(first + 1, len(names))
    )
    pair = f"{names[first]!r} and {names[second]!r}"
    remedy = "give more and clearer examples of both, or merge them into one label"
    if (by_chance > _BY_CHANCE and count - correct > 1) or correct / count < chance + _BETTER * (
        1 - chance
    ):
        return (
            f"the examples do not tell the labels apart: when each is left out in turn, {correct} "
            f"of {count} are recognized as their own label, which may be chance; hardest to tell "
            f"apart are {pair}: {remedy}"
        )
    if apart < _PAIR:
        return (
            f"the examples do not tell {pair} apart: when each is left out in turn, {apart:.0%} "
            f"of them are recognized as the right one of the two: {remedy}"
        )
    return None


def _apart(probabilities: Floats, gold: Places, first: int, second: int) -> float:
    """The share of two labels' examples for which the right one of the two is more probable."""
    both = (gold == first) | (gold == second)
    predicts_first = probabilities[both, first] > probabilities[both, second]
    return float((predicts_first == (gold[both] == first)).mean())


@dataclass(frozen=True, slots=True)
class OwnLabel:
    """A label of a tenant's own.

    Attributes:
        sentence: its description.
        examples: texts that carry it.
        unified: always None: it maps to no label of the Feeling Wheel.
    """

    name: str
    sentence: str
    examples: tuple[str, ...]
    unified: None = None


@dataclass(frozen=True)
class OwnLabels(Labels[OwnLabel]):
    """A tenant's own labels, as stored.

    Attributes:
        source: the label space that the model reads in.
    """

    source: LabelSpace


@dataclass(frozen=True)
class OwnLabelSpace(OwnLabels):
    """A tenant's own labels, with the classifier learned from their examples.

    Attributes:
        classifier: predicts the label from a line's vector and the model's prediction in `source`.
    """

    classifier: FewShot

    def predict(self, vector: npt.NDArray[np.float32], prediction: Prediction) -> Prediction:
        """Predict from a line's sentence vector and the model's prediction in `source`."""
        probabilities = self.classifier(features(vector, prediction.probabilities))
        return Prediction(self, tuple(probabilities.tolist()), prediction.label_mass)
