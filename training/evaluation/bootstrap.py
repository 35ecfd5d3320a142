"""Intervals of a score, and of a difference between two, by the bootstrap.

Whole dialogues are drawn with replacement, because the utterances of one are alike; an interval is
of percentiles (Efron and Tibshirani 1993, chapter 13). Two models are compared on the same draws
(Koehn 2004, W04-3250, section 4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.arrays import Floats
from training.evaluation.predictions import Predictions

# A measure of confusion matrices, shape (..., labels, labels), as `metrics` has them.
Measure = Callable[[Floats], Floats]

DRAWS = 10_000
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A measure, and the interval that contains it in 95 of 100 draws."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between two models in a measure.

    Attributes:
        by_chance: share of the draws in which the difference is zero or of the other sign, twice,
            at most 1: small where chance is a poor explanation.
    """

    value: float
    low: float
    high: float
    by_chance: float


class NotTheSameUtterances(ValueError):
    """Two sets of predictions cannot be compared."""


def interval(predictions: Predictions, measure: Measure, seed: int = 0) -> Interval:
    """A measure with its interval."""
    return mean_interval([predictions], measure, seed)


def mean_interval(runs: Sequence[Predictions], measure: Measure, seed: int = 0) -> Interval:
    """A measure's mean over runs, as of several seeds, with its interval.

    All runs are measured on the same draws: the interval is of the utterances' chance, given these
    runs.

    Raises:
        NotTheSameUtterances: they are of different utterances, labels or gold labels.
    """
    value, drawn = _drawn(runs, measure, seed)
    low, high = _middle(drawn)
    return Interval(value, low, high)


def difference(one: Predictions, other: Predictions, measure: Measure, seed: int = 0) -> Difference:
    """How much more `one` has than `other`, on the same draws.

    Raises:
        NotTheSameUtterances: they are of different utterances, labels or gold labels.
    """
    return mean_difference([one], [other], measure, seed)


def mean_difference(
    ones: Sequence[Predictions], others: Sequence[Predictions], measure: Measure, seed: int = 0
) -> Difference:
    """How much more the runs of one model have than those of another in the mean.

    Raises:
        NotTheSameUtterances: they are of different utterances, labels or gold labels.
    """
    _check_same(ones[0], others[0])
    (ours, our_draws), (theirs, their_draws) = (
        _drawn(runs, measure, seed) for runs in (ones, others)
    )
    drawn = our_draws - their_draws
    low, high = _middle(drawn)
    against = min((drawn <= 0).mean(), (drawn >= 0).mean())
    return Difference(ours - theirs, low, high, min(1.0, 2 * float(against)))


def _drawn(runs: Sequence[Predictions], measure: Measure, seed: int) -> tuple[float, Floats]:
    """The runs' mean, and that of each draw, shape (DRAWS,)."""
    for run in runs[1:]:
        _check_same(runs[0], run)
    dialogues = [_by_dialogue(run) for run in runs]
    draws = _draws(len(dialogues[0]), seed)
    values = [float(measure(matrices.sum(0))) for matrices in dialogues]
    drawn = [measure(_sums(matrices, draws)) for matrices in dialogues]
    return float(np.mean(values)), np.mean(drawn, axis=0)


def _by_dialogue(predictions: Predictions) -> Floats:
    """A confusion matrix of each dialogue, shape (dialogues, labels, labels)."""
    labels, numbers = len(predictions.labels), predictions.dialogues
    matrices = np.zeros((int(numbers.max()) + 1, labels, labels))
    np.add.at(matrices, (numbers, predictions.gold, predictions.probabilities.argmax(1)), 1.0)
    return matrices


def _draws(count: int, seed: int) -> Floats:
    """How often each draw has each of `count` dialogues, shape (DRAWS, count)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)


def _sums(matrices: Floats, draws: Floats) -> Floats:
    """Confusion matrices of draws, shape (DRAWS, labels, labels)."""
    labels = matrices.shape[-1]
    return (draws @ matrices.reshape(len(matrices), -1)).reshape(DRAWS, labels, labels)


def _middle(drawn: Floats) -> tuple[float, float]:
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return float(low), float(high)


def _check_same(one: Predictions, other: Predictions) -> None:
    if one.labels != other.labels:
        raise NotTheSameUtterances(
            f"{one.label_space} and {other.label_space}: the labels are not the same"
        )
    if len(one.answers) != len(other.answers):
        raise NotTheSameUtterances(
            f"{one.label_space}: {len(one.answers)} utterances and {len(other.answers)}"
        )
    for left, right in zip(one.answers, other.answers, strict=True):
        if (left.dialogue, left.index, left.gold) != (right.dialogue, right.index, right.gold):
            raise NotTheSameUtterances(
                f"{one.label_space}: utterance {left.index} of dialogue {left.dialogue!r} "
                f"corresponds to {right.index} of {right.dialogue!r}, or their gold labels differ"
            )
