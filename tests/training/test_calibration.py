"""Calibration measured and fitted on data whose answer is known."""

import numpy as np
import pytest

from training.calibration import calibration_error, fit_temperature
from training.predictions import Floats


def rows(confidence: float, count: int) -> Floats:
    """So many answers with this confidence in the first of two labels."""
    return np.tile([confidence, 1 - confidence], (count, 1))


def gold(right: int, wrong: int) -> np.ndarray:
    return np.array([0] * right + [1] * wrong)


@pytest.mark.parametrize(
    ("confidence", "right", "wrong", "expected"),
    [
        # Says 9 to 1 where 3 to 1 is true: 9 = 3 ** 2.
        (0.9, 3, 1, 2.0),
        (0.75, 9, 1, 0.5),
        (0.8, 8, 2, 1.0),
        # No finite temperature is best; the ends of the range are.
        (0.9, 5, 0, 0.25),
        (0.9, 1, 4, 4.0),
    ],
)
def test_temperature_makes_the_odds_true(
    confidence: float, right: int, wrong: int, expected: float
) -> None:
    """To a percent."""
    said = np.log(rows(confidence, right + wrong))

    assert fit_temperature(said, gold(right, wrong)) == pytest.approx(expected, rel=0.01)


def test_temperature_needs_logarithms_up_to_a_constant_only() -> None:
    """A softmax does not say how much of the vocabulary went to the labels."""
    said = np.log(rows(0.9, 4)) + np.array([[0.0], [-3.0], [5.0], [-20.0]])

    assert fit_temperature(said, gold(3, 1)) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(
    ("said", "truth", "expected"),
    [
        (rows(0.8, 10), gold(8, 2), 0.0),
        (rows(0.9, 4), gold(3, 1), 0.15),
        (rows(0.6, 5), gold(5, 0), 0.4),
        # Two bins, weighted by how many are in each.
        (np.vstack([rows(0.9, 4), rows(0.6, 6)]), gold(3, 7), 0.4 * 0.15 + 0.6 * 0.6),
        # One bin, from 9/15 to 10/15: what is right in it is held against its mean.
        (np.vstack([rows(0.61, 1), rows(0.65, 1)]), gold(1, 1), 0.13),
        # Certainty is in the last bin.
        (rows(1.0, 4), gold(4, 0), 0.0),
        (rows(1.0, 4), gold(0, 4), 1.0),
    ],
)
def test_calibration_error_is_the_mean_gap_between_confidence_and_truth(
    said: Floats, truth: np.ndarray, expected: float
) -> None:
    assert calibration_error(said, truth) == pytest.approx(expected)


def test_confidence_is_in_the_most_probable_label() -> None:
    """Of three labels the last is said, and true, with 0.5."""
    said = np.tile([0.2, 0.3, 0.5], (2, 1))

    assert calibration_error(said, np.array([2, 0])) == pytest.approx(0.0)
