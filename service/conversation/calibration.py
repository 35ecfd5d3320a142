"""Calibration: turns the labels' shares under the model into reliable probabilities.

`training.evaluation.calibration` fits a temperature, a temperature with biases, or curves on a
development split, `training.evaluation.scores` stores them in `bundle.json`
(`service.decoding.bundle`), and `service.conversation.prediction` applies them to the scores of an
utterance.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# (share, truth): the fraction of utterances with this label, among those given this share of it.
Knot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divides the labels' log-probabilities: 1 changes nothing, a higher value flattens.

    The most probable label stays the same.

    Raises:
        ValueError: the value is not above 0 and finite.

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


@dataclass(frozen=True, slots=True)
class BiasCorrected:
    """Divides the labels' log-probabilities by a temperature and adds a bias to each.

    A label that the model says too often gets a negative bias, so another label may become the most
    probable.

    Attributes:
        biases: in nats, one per label, in the label space's order.

    Raises:
        ValueError: the temperature is not above 0 and finite, or a bias is not finite.

    Source: bias-corrected temperature scaling, Alexandari et al. 2020, section 2, arXiv 1901.06852.
    """

    temperature: Temperature
    biases: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, self.biases)):
            raise ValueError(f"biases must be finite, got {self.biases}")

    def __call__(self, log_probabilities: Floats) -> Floats:
        """Distributions, shape (..., labels), from logarithms up to a constant a row.

        Raises:
            ValueError: the number of labels is not the number of biases.
        """
        if log_probabilities.shape[-1] != len(self.biases):
            raise ValueError(f"{len(self.biases)} biases for {log_probabilities.shape[-1]} labels")
        return self.temperature(log_probabilities + self.temperature.value * np.array(self.biases))


@dataclass(frozen=True)
class Isotonic:
    """Maps each label's share through a curve of its own, then normalizes the truths to sum to 1.

    Where the curves of two labels differ, another label may become the most probable.

    Attributes:
        curves: one per label, in the label space's order: knots with strictly rising shares and
            truths that never fall. Linear between two knots, constant outside the first and last.

    Raises:
        ValueError: a curve has no knots or falls, or a truth is not above 0.

    Source: Zadrozny and Elkan 2002, section 5, doi 10.1145/775047.775151.
    """

    curves: tuple[tuple[Knot, ...], ...]

    def __post_init__(self) -> None:
        for knots in self.curves:
            check_curve(knots)

    def __call__(self, log_probabilities: Floats) -> Floats:
        """Distributions, shape (..., labels), from logarithms up to a constant a row.

        Raises:
            ValueError: the number of labels is not the number of curves.
        """
        if log_probabilities.shape[-1] != len(self.curves):
            raise ValueError(f"{len(self.curves)} curves for {log_probabilities.shape[-1]} labels")
        shares = Temperature()(log_probabilities)
        truths = np.stack(
            [np.interp(shares[..., n], *axes) for n, axes in enumerate(self._axes)], axis=-1
        )
        distributions: Floats = truths / truths.sum(-1, keepdims=True)
        return distributions

    @cached_property
    def _axes(self) -> list[tuple[Floats, Floats]]:
        return [
            (np.asarray([share for share, _ in knots]), np.asarray([truth for _, truth in knots]))
            for knots in self.curves
        ]


Calibration = Temperature | BiasCorrected | Isotonic


def check_curve(knots: tuple[Knot, ...]) -> tuple[Knot, ...]:
    """Return the knots unchanged if they form a valid curve of `Isotonic`.

    Raises:
        ValueError: they do not.
    """
    if not knots:
        raise ValueError("a curve needs a knot")
    if not all(0 <= share <= 1 and 0 < truth <= 1 for share, truth in knots):
        raise ValueError("shares must be from 0 to 1, truths above 0 and up to 1")
    if not all(
        knot[0] < following[0] and knot[1] <= following[1] for knot, following in pairwise(knots)
    ):
        raise ValueError("shares must rise from knot to knot, and truths must not fall")
    return knots
