"""What is measured of corrections, beside its bar."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.bench.table import markdown
from training.arrays import Floats
from training.evaluation.bootstrap import DRAWS, Interval
from training.evaluation.calibration import calibration_error
from training.evaluation.predictions import Predictions

_BINS = 15  # as `calibration_error` has them
_TAIL = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    Attributes:
        row: what it belongs to: a row of the bars, or "+" for what has none.
        asked: how many answers it is of.
        before: the same without the corrections, where that says something.
        value: in percent, or in points of a hundred where it is a difference.
        wanted: the bar; None: it is only told.
        at_least: whether more is better.
    """

    row: str
    name: str
    asked: int
    value: float
    before: float | None = None
    wanted: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it is as wanted; None where there is no bar."""
        if self.wanted is None:
            return None
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted


def percent(flags: Iterable[bool]) -> float:
    """How many of all, in percent; of nothing, 0."""
    draws_of = list(flags)
    return 100 * sum(draws_of) / len(draws_of) if draws_of else 0.0


def differing(before: Sequence[object], after: Sequence[object]) -> list[bool]:
    """Which differ, pair by pair."""
    return [one != other for one, other in zip(before, after, strict=True)]


def calibration_difference(one: Predictions, other: Predictions, seed: int = 0) -> Interval:
    """How much more calibration error `one` has than `other`, on the same draws of dialogues.

    Args:
        one, other: of the same utterances.
    """
    value = calibration_error(one.probabilities, one.gold) - calibration_error(
        other.probabilities, other.gold
    )
    dialogues = int(one.dialogues.max()) + 1
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(dialogues, np.full(dialogues, 1 / dialogues), size=DRAWS)
    weights = draws.astype(np.float64)
    drawn = _drawn_error(one, weights) - _drawn_error(other, weights)
    low, high = np.quantile(drawn, (_TAIL, 1 - _TAIL))
    return Interval(value, float(low), float(high))


def _drawn_error(predictions: Predictions, draws: Floats) -> Floats:
    """The calibration error of each draw, shape (draws,)."""
    confidence = predictions.probabilities.max(1)
    right = predictions.probabilities.argmax(1) == predictions.gold
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    # By dialogue and bin: how much more often right than confident.
    gaps = np.zeros((draws.shape[1], _BINS))
    np.add.at(gaps, (predictions.dialogues, bins), right - confidence)
    sizes = np.bincount(predictions.dialogues, minlength=draws.shape[1])
    errors: Floats = np.abs(draws @ gaps).sum(1) / (draws @ sizes)
    return errors


def figures_table(figures: Iterable[Figure]) -> str:
    """One line a figure, in Markdown."""
    heads = ("row", "figure", "asked", "before", "measured", "bar", "", "note")
    verdict = {True: "met", False: "missed", None: ""}
    rows = (
        (
            figure.row,
            figure.name,
            f"{figure.asked:,}",
            "" if figure.before is None else f"{figure.before:.2f}",
            f"{figure.value:.2f}",
            _bar(figure),
            verdict[figure.met],
            figure.note,
        )
        for figure in figures
    )
    return markdown(heads, rows)


def _bar(figure: Figure) -> str:
    if figure.wanted is None:
        return ""
    return f"{'>=' if figure.at_least else '<='} {figure.wanted:g}"
