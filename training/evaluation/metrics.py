"""Measures of predictions, as the corpora define them.

Those of labels are functions of a confusion matrix, so that many resampled ones are measured at
once. MELD, EmoryNLP and IEMOCAP are compared by weighted F1, DailyDialog by micro F1 without
neutral (Ghosal et al. 2020, COSMIC, arXiv 2010.02795, section 4.3).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from training.arrays import Floats, Ints
from training.evaluation.calibration import calibration_error
from training.evaluation.label_orders import flip_rate
from training.evaluation.predictions import Predictions

# Labels that say there is no emotion; micro F1 leaves them out.
NEUTRAL = ("neutral", "no emotion")
# How the measures of labels are called, by their names in `Metrics`.
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "weighted_f1": "weighted F1",
        "macro_f1": "macro F1",
        "micro_f1": "micro F1 without neutral",
        "accuracy": "accuracy",
    }
)
# Label spaces whose corpora are not compared by weighted F1.
_COMPARED_BY: Mapping[str, str] = MappingProxyType({"dailydialog": "micro_f1"})
_COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class LabelMetrics:
    """The measures of one label: shares from 0 to 1, and the number of utterances that have it."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Shares from 0 to 1.

    Attributes:
        micro_f1: over the labels other than neutral.
        brier: mean squared distance of the distribution from the gold label, 0 to 2 (Brier 1950).
        calibration_error: see `training.evaluation.calibration`.
        accuracy_at_coverage: when only the most confident share of the utterances is answered.
        demonstration_agreement: how often the nearest demonstration shown has the gold label; None
            where none was shown.
        label_order_flip_rate: how often another order of the prompt's labels changes the answer;
            None where none was asked in.
        invalid_rate: how often a freely decoded text is not exactly a verbalizer.
        free_decode_agreement: how often that is the verbalizer of the label scored highest; None,
            both of them, where nothing was decoded.
        confusion: gold labels down, predicted labels across.
    """

    utterances: int
    weighted_f1: float
    macro_f1: float
    micro_f1: float
    accuracy: float
    brier: float
    calibration_error: float
    label_mass: float
    demonstration_agreement: float | None
    label_order_flip_rate: float | None
    invalid_rate: float | None
    free_decode_agreement: float | None
    accuracy_at_coverage: dict[float, float]
    labels: dict[str, LabelMetrics]
    confusion: list[list[int]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compared_by(label_space: str) -> str:
    """The name in `Metrics` of the measure by which models are compared in a label space."""
    return _COMPARED_BY.get(label_space, "weighted_f1")


def own_measure(label_space: str, labels: tuple[str, ...]) -> Callable[[Floats], Floats]:
    """That measure of confusion matrices, shape (..., labels, labels).

    Args:
        labels: the label space's, in its order.
    """
    if compared_by(label_space) == "micro_f1":
        return partial(micro_f1, without=neutral_places(labels))
    return weighted_f1


def measure(predictions: Predictions) -> Metrics:
    """Every measure of one label space's predictions."""
    gold, probabilities = predictions.gold, predictions.probabilities
    matrix = confusion(gold, probabilities.argmax(1), len(predictions.labels))
    precision, recall, f1 = by_label(matrix)
    support = matrix.sum(1)
    best = [predictions.labels[place] for place in probabilities.argmax(1)]
    spoken = [
        (a.spoken.label, b) for a, b in zip(predictions.answers, best, strict=True) if a.spoken
    ]
    shown = [(a.demonstrations[0], a.gold) for a in predictions.answers if a.demonstrations]
    return Metrics(
        utterances=len(gold),
        weighted_f1=float(weighted_f1(matrix)),
        macro_f1=float(macro_f1(matrix)),
        micro_f1=float(micro_f1(matrix, neutral_places(predictions.labels))),
        accuracy=float(accuracy(matrix)),
        brier=brier(probabilities, gold),
        calibration_error=calibration_error(probabilities, gold),
        label_mass=float(np.mean([answer.label_mass for answer in predictions.answers])),
        demonstration_agreement=_rate([label == predictions.labels[at] for label, at in shown]),
        label_order_flip_rate=flip_rate(predictions) if predictions.reordered.size else None,
        invalid_rate=_rate([label is None for label, _ in spoken]),
        free_decode_agreement=_rate([label == highest for label, highest in spoken]),
        accuracy_at_coverage=accuracy_at_coverage(probabilities, gold),
        labels={
            name: LabelMetrics(float(precision[n]), float(recall[n]), float(f1[n]), int(support[n]))
            for n, name in enumerate(predictions.labels)
        },
        confusion=matrix.astype(int).tolist(),
    )


def confusion(gold: Ints, predicted: Ints, labels: int) -> Floats:
    """How often each label is predicted for each gold one, shape (labels, labels), gold down."""
    matrix = np.zeros((labels, labels))
    np.add.at(matrix, (gold, predicted), 1.0)
    return matrix


def by_label(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each label, 0 where there is nothing to divide by.

    Args:
        matrix: shape (..., labels, labels), one confusion matrix or many.

    Returns:
        Each of shape (..., labels).
    """
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    predicted, gold = matrix.sum(-2), matrix.sum(-1)
    return _share(right, predicted), _share(right, gold), _share(2 * right, predicted + gold)


def weighted_f1(matrix: Floats) -> Floats:
    """Mean F1 of the labels, each as often as it is the gold one; shape (...)."""
    gold = matrix.sum(-1)
    return _share((by_label(matrix)[2] * gold).sum(-1), gold.sum(-1))


def macro_f1(matrix: Floats) -> Floats:
    """Mean F1 of the labels that occur, in gold or in predictions; shape (...)."""
    occurs = (matrix.sum(-1) + matrix.sum(-2)) > 0
    return _share((by_label(matrix)[2] * occurs).sum(-1), occurs.sum(-1).astype(np.float64))


def micro_f1(matrix: Floats, without: Ints) -> Floats:
    """F1 over all labels together but those at some places; shape (...)."""
    kept = np.setdiff1d(np.arange(matrix.shape[-1]), without)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)[..., kept].sum(-1)
    predicted, gold = matrix.sum(-2)[..., kept].sum(-1), matrix.sum(-1)[..., kept].sum(-1)
    return _share(2 * right, predicted + gold)


def accuracy(matrix: Floats) -> Floats:
    """Share of the utterances that are labelled right; shape (...)."""
    return _share(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum((-2, -1)))


def neutral_places(labels: tuple[str, ...]) -> Ints:
    """Where the labels stand that say there is no emotion."""
    return np.asarray([n for n, label in enumerate(labels) if label in NEUTRAL], np.int64)


def brier(probabilities: Floats, gold: Ints) -> float:
    """Mean squared distance of distributions from the gold labels, 0 to 2."""
    true = np.eye(probabilities.shape[1])[gold]
    return float(((probabilities - true) ** 2).sum(1).mean())


def accuracy_at_coverage(probabilities: Floats, gold: Ints) -> dict[float, float]:
    """Accuracy on the most confident share of the utterances, for shares from 0.1 to 1."""
    order = np.argsort(-probabilities.max(1), kind="stable")
    right = (probabilities.argmax(1) == gold)[order]
    return {share: float(right[: max(1, round(share * len(right)))].mean()) for share in _COVERAGES}


def _rate(hits: Sequence[bool]) -> float | None:
    """The share of hits; None where nothing was tried."""
    return float(np.mean(hits)) if hits else None


def _share(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return shares
