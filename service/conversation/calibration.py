"""Calibration: from the model's label shares to reliable probabilities.

Each is fitted in training and kept in the bundle; both sides calibrate by what stands here.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# (share, truth): of the utterances to which the model gives a label this share, how many have it.
Knot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divides the labels' log-probabilities: 1 changes nothing, more flattens.

    It never changes which label is the most probable.

    Raises:
        ValueError: not above 0 and finite.

    Source: temperature scaling, Guo et al. 2017, section 4.2, arXiv 1706.04599.
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.value < math.inf:  # so that NaN is refused too
            raise ValueError(f"temperature must be above 0 and finite, got {self.value}")

    def __call__(self, log_probabilities: Floats) -> Floats:
        """Distributions, shape (..., labels), from logarithms up to a constant a row."""
        highest = log_probabilities.max(-1, keepdims=True)
        weights = np.exp((log_probabilities - highest) / self.value)
        shares: Floats = weights / weights.sum(-1, keepdims=True)
        return shares


@dataclass(frozen=True)
class Isotonic:
    """Maps each label's share by a curve of its own, then makes the truths sum to 1.

    Where two labels' curves differ, another label may become the most probable.

    Attributes:
        curves: for each label, in the label space's order, knots with rising shares and truths
            that do not fall; straight between two knots, flat beyond the first and the last.

    Raises:
        ValueError: a curve without knots, one that falls, or a truth that is not above 0.

    Source: Zadrozny and Elkan 2002, section 5, doi 10.1145/775047.775151.
    """

    curves: tuple[tuple[Knot, ...], ...]

    def __post_init__(self) -> None:
        for knots in self.curves:
            check_curve(knots)

    def __call__(self, log_probabilities: Floats) -> Floats:
        """Distributions, shape (..., labels), from logarithms up to a constant a row.

        Raises:
            ValueError: another number of labels than of curves.
        """
        if log_probabilities.shape[-1] != len(self.curves):
            raise ValueError(f"{len(self.curves)} curves for {log_probabilities.shape[-1]} labels")
        shares = Temperature()(log_probabilities)
        truths = np.stack(
            [np.interp(shares[..., n], *axes) for n, axes in enumerate(self._axes)], axis=-1
        )
        found: Floats = truths / truths.sum(-1, keepdims=True)
        return found

    @cached_property
    def _axes(self) -> list[tuple[Floats, Floats]]:
        return [
            (np.asarray([share for share, _ in knots]), np.asarray([truth for _, truth in knots]))
            for knots in self.curves
        ]


Calibration = Temperature | Isotonic


def check_curve(knots: tuple[Knot, ...]) -> tuple[Knot, ...]:
    """The same knots, if they are a curve of `Isotonic`.

    Raises:
        ValueError: they are not.
    """
    if not knots:
        raise ValueError("a curve needs a knot")
    if not all(0 <= share <= 1 and 0 < truth <= 1 for share, truth in knots):
        raise ValueError("shares must be from 0 to 1, truths above 0 and up to 1")
    if not all(one[0] < next_[0] and one[1] <= next_[1] for one, next_ in pairwise(knots)):
        raise ValueError("shares must rise from knot to knot, and truths must not fall")
    return knots
