"""Calibrations, and what is none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.calibration import BiasCorrected, Isotonic, Knot, Temperature

STRAIGHT: tuple[Knot, ...] = ((0.0, 1e-9), (1.0, 1.0))


@st.composite
def curves(draw: st.DrawFn, labels: int = 3) -> Isotonic:
    """Any curves that may stand in a bundle."""

    def curve() -> tuple[Knot, ...]:
        shares = draw(st.sets(st.floats(0, 1), min_size=1, max_size=6))
        truths = [draw(st.floats(1e-6, 1)) for _ in shares]
        return tuple(zip(sorted(shares), sorted(truths), strict=True))

    return Isotonic(tuple(curve() for _ in range(labels)))


def shares(labels: int = 3) -> st.SearchStrategy[list[float]]:
    """Logarithms, one of which at least is finite."""
    some = st.floats(-40, 0) | st.just(-math.inf)
    return st.lists(some, min_size=labels, max_size=labels).filter(lambda row: max(row) > -40)


@given(curves(), shares())
def test_curves_make_distributions(calibration: Isotonic, scores: list[float]) -> None:
    """Whatever the model says, a label of which it thinks nothing included."""
    calibrated = calibration(np.array(scores))

    assert calibrated.sum() == pytest.approx(1.0)
    assert (calibrated > 0).all()


@given(st.lists(shares(), min_size=1, max_size=5), curves())
def test_many_utterances_are_calibrated_as_one_is(
    rows: list[list[float]], calibration: Isotonic
) -> None:
    """By each calibration: training has all at once, the service one."""
    biased = BiasCorrected(Temperature(1.7), (0.5, -1.0, 0.0))
    for calibrated in (calibration, Temperature(1.7), biased):
        together = calibrated(np.array(rows))

        for row, alone in zip(rows, together, strict=True):
            assert calibrated(np.array(row)) == pytest.approx(alone, rel=1e-12, abs=0)


def test_shares_between_two_knots_are_on_the_straight_line() -> None:
    """And flat beyond the ends: 0.1, 0.5 and 0.4 become 0.2, 0.4 and 0.4."""
    curve: tuple[Knot, ...] = ((0.2, 0.2), (0.4, 0.4), (0.45, 0.4))

    probabilities = Isotonic((curve, curve, curve))(np.log([0.1, 0.5, 0.4]))

    assert probabilities == pytest.approx([0.2, 0.4, 0.4])


def test_truths_are_made_to_sum_to_1() -> None:
    """Each label has a curve of its own: 0.6 and 0.4 become 0.3 and 0.9, so 1 to 3."""
    calibration = Isotonic((((0.0, 0.3),), ((0.4, 0.9),)))

    assert calibration(np.log([0.6, 0.4])) == pytest.approx([0.25, 0.75])


def test_straight_curves_change_nothing() -> None:
    probabilities = [0.7, 0.2, 0.1]

    assert Isotonic((STRAIGHT,) * 3)(np.log(probabilities)) == pytest.approx(probabilities)


@pytest.mark.parametrize(
    ("knots", "message"),
    [
        ((), "needs a knot"),
        (((0.2, 0.5), (0.2, 0.6)), "shares must rise"),
        (((0.3, 0.5), (0.2, 0.6)), "shares must rise"),
        (((0.2, 0.5), (0.3, 0.4)), "truths must not fall"),
        (((0.2, 0.0),), "truths above 0"),
        (((0.2, 1.1),), "truths above 0 and up to 1"),
        (((-0.1, 0.5),), "shares must be from 0 to 1"),
        (((math.nan, 0.5),), "shares must be from 0 to 1"),
        (((0.5, math.nan),), "truths above 0"),
    ],
)
def test_what_is_no_curve_is_refused(knots: tuple[Knot, ...], message: str) -> None:
    """Confidence would fall as the model grows surer, or a label be impossible."""
    with pytest.raises(ValueError, match=message):
        Isotonic((knots,))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        Temperature(temperature)


def test_curves_of_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 curves for 2 labels"):
        Isotonic((STRAIGHT,) * 3)(np.log([0.5, 0.5]))


def test_bias_is_added_after_the_temperature() -> None:
    """9 to 1 becomes 3 to 1 at 2, and 3 to 2 with a bias of log 2 for the second label."""
    calibration = BiasCorrected(Temperature(2.0), (0.0, math.log(2)))

    assert calibration(np.log([0.9, 0.1])) == pytest.approx([0.6, 0.4])


def test_bias_makes_no_impossible_label_possible() -> None:
    calibration = BiasCorrected(Temperature(1.0), (0.0, 5.0))

    assert calibration(np.array([0.0, -math.inf])) == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("bias", [math.inf, -math.inf, math.nan])
def test_bias_that_is_no_number_is_refused(bias: float) -> None:
    with pytest.raises(ValueError, match="biases must be finite"):
        BiasCorrected(Temperature(), (0.0, bias))


def test_as_many_biases_as_labels_are_needed() -> None:
    with pytest.raises(ValueError, match="2 biases for 3 labels"):
        BiasCorrected(Temperature(), (0.0, 1.0))(np.zeros(3))
