"""From log-probabilities to a distribution over a label space, and the calibrations of it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.labels import LabelSpace
from service.conversation.prediction import (
    BiasCorrected,
    Isotonic,
    Knot,
    Prediction,
    Temperature,
    prediction_from_scores,
)

AS_SAID = Temperature(1.0)
SEVEN = [math.log(p) for p in (0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05)]
TEMPERATURES = st.floats(0.05, 20)
STRAIGHT: tuple[Knot, ...] = ((0.0, 1e-9), (1.0, 1.0))


def distributions(labels: int) -> st.SearchStrategy[list[float]]:
    """Log-probabilities of `labels` labels that share a vocabulary with other words."""
    return (
        st.lists(st.floats(0.0, 1.0), min_size=labels + 1, max_size=labels + 1)
        .filter(lambda weights: max(weights[:-1]) > 1e-9)
        .map(lambda weights: [w / sum(weights) for w in weights[:-1]])
        .map(lambda shares: [math.log(p) if p > 0 else -math.inf for p in shares])
    )


@given(distributions(7), TEMPERATURES)
def test_probabilities_sum_to_1(
    spaces: Mapping[str, LabelSpace], scores: list[float], temperature: float
) -> None:
    """Whatever the model says and however it is calibrated."""
    prediction = prediction_from_scores(spaces["meld"], scores, Temperature(temperature))

    assert sum(prediction.probabilities) == pytest.approx(1.0)
    assert all(0 <= p <= 1 for p in prediction.probabilities)


@given(distributions(7))
def test_temperature_1_leaves_the_models_shares(
    spaces: Mapping[str, LabelSpace], scores: list[float]
) -> None:
    """What the labels got of the vocabulary, made to sum to 1; the sum itself is the label mass."""
    shares = [math.exp(score) for score in scores]

    prediction = prediction_from_scores(spaces["meld"], scores, AS_SAID)

    assert prediction.probabilities == pytest.approx([p / sum(shares) for p in shares])
    assert prediction.label_mass == pytest.approx(sum(shares))


@given(distributions(7), TEMPERATURES)
def test_temperature_never_changes_the_label(
    spaces: Mapping[str, LabelSpace], scores: list[float], temperature: float
) -> None:
    """It moves the confidence alone: the label is one that the model found most probable."""
    best = prediction_from_scores(spaces["meld"], scores, Temperature(temperature)).label

    assert scores[spaces["meld"].labels.index(best)] == pytest.approx(max(scores), abs=1e-9)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 16 / 17), (1, 0.8), (2, 2 / 3)])
def test_temperature_divides_the_logarithms(
    temperature: float, expected: float, spaces: Mapping[str, LabelSpace]
) -> None:
    """0.8 against 0.2 is 4 to 1: squared at 0.5, its root at 2."""
    scores = [math.log(0.8), math.log(0.2)] + 5 * [-math.inf]

    prediction = prediction_from_scores(spaces["meld"], scores, Temperature(temperature))

    assert prediction.confidence == pytest.approx(expected)
    assert prediction.probabilities == pytest.approx([expected, 1 - expected, 0, 0, 0, 0, 0])


def test_most_probable_label_is_the_answer(spaces: Mapping[str, LabelSpace]) -> None:
    """With its name, its verbalizer and what it is in the unified labels."""
    scores = [*SEVEN[1:], SEVEN[0]]

    prediction = prediction_from_scores(spaces["meld"], scores, AS_SAID)

    assert (prediction.label.name, prediction.label.unified) == ("anger", "mad")
    assert prediction.confidence == pytest.approx(0.4 / 0.95)


def test_of_equals_the_first_in_the_label_spaces_order_is_the_answer(
    spaces: Mapping[str, LabelSpace],
) -> None:
    """The same input gets the same answer everywhere."""
    low, high = math.log(0.1), math.log(0.3)

    prediction = prediction_from_scores(
        spaces["meld"], [low, high, low, high, low, low, low], AS_SAID
    )

    assert prediction.label.name == "surprise"


def test_rounding_above_certainty_counts_as_certainty(spaces: Mapping[str, LabelSpace]) -> None:
    """A model in bfloat16 may say a hair more than 1; the label mass never does."""
    scores = [0.0005] + 6 * [-30.0]

    assert prediction_from_scores(spaces["meld"], scores, AS_SAID).label_mass == 1.0


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (SEVEN[:6], "need 7 log-probabilities"),
        ([*SEVEN, -3.0], "need 7 log-probabilities"),
        ([], "need 7 log-probabilities"),
        ([*SEVEN[:6], math.nan], "need 7 log-probabilities"),
        ([*SEVEN[:6], 0.3], "need 7 log-probabilities"),
        ([*SEVEN[:6], math.inf], "need 7 log-probabilities"),
        (7 * [-math.inf], "every label a probability of zero"),
    ],
)
def test_what_is_no_distribution_is_refused(
    scores: Sequence[float],
    message: str,
    spaces: Mapping[str, LabelSpace],
) -> None:
    """A silent guess would look like an answer."""
    with pytest.raises(ValueError, match=message):
        prediction_from_scores(spaces["meld"], scores, AS_SAID)


def test_calibration_of_other_labels_is_refused(spaces: Mapping[str, LabelSpace]) -> None:
    with pytest.raises(ValueError, match="2 curves for 7 labels"):
        prediction_from_scores(spaces["meld"], SEVEN, Isotonic((((0.0, 0.5),),) * 2))


def test_calibration_leaves_the_label_mass_alone(spaces: Mapping[str, LabelSpace]) -> None:
    """It is of the vocabulary, not of the labels."""
    curve = ((0.0, 0.1), (1.0, 0.9))

    for calibration in (Temperature(3.0), Isotonic((curve,) * 7)):
        prediction = prediction_from_scores(spaces["meld"], SEVEN, calibration)
        assert prediction.label_mass == pytest.approx(0.95)


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


@pytest.mark.parametrize(
    ("probabilities", "margin"),
    [((0.5, 0.2, 0.3), 0.2), ((0.5, 0.5), 0.0), ((0.0, 1.0), 1.0), ((1.0,), 1.0)],
)
def test_the_margin_is_between_the_two_most_probable_labels(
    spaces: Mapping[str, LabelSpace], probabilities: tuple[float, ...], margin: float
) -> None:
    prediction = Prediction(spaces["meld"], probabilities, 1.0)

    assert prediction.margin == pytest.approx(margin)
