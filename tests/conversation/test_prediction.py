"""From log-probabilities to a distribution over a label space."""

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.calibration import Isotonic, Temperature
from service.conversation.labels import LabelSpace
from service.conversation.prediction import Prediction, prediction_from_scores

AS_SAID = Temperature(1.0)
SEVEN = [math.log(p) for p in (0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05)]
TEMPERATURES = st.floats(0.05, 20)


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


@pytest.mark.parametrize(
    ("probabilities", "margin"),
    [((0.5, 0.2, 0.3), 0.2), ((0.5, 0.5), 0.0), ((0.0, 1.0), 1.0), ((1.0,), 1.0)],
)
def test_the_margin_is_between_the_two_most_probable_labels(
    spaces: Mapping[str, LabelSpace], probabilities: tuple[float, ...], margin: float
) -> None:
    prediction = Prediction(spaces["meld"], probabilities, 1.0)

    assert prediction.margin == pytest.approx(margin)
