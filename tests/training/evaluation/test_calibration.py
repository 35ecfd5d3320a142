"""Calibration measured and fitted on data whose answer is known."""

import numpy as np
import pytest

from service.conversation.calibration import Isotonic, Temperature
from service.decoding.bundle import MOST_KNOTS
from training.arrays import Floats, Ints
from training.evaluation.calibration import (
    FITS,
    Fit,
    best_fit,
    calibrated,
    calibration_error,
    cross_calibrated,
    fit_bias_corrected,
    fit_isotonic,
    fit_temperature,
    fitted,
    label_weights,
    reliability,
)
from training.evaluation.predictions import Answer, Predictions


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
    scores = np.log(rows(confidence, right + wrong))

    assert fit_temperature(scores, gold(right, wrong)) == pytest.approx(expected, rel=0.01)


def test_answers_in_other_orders_are_calibrated_alike() -> None:
    """9 to 1 becomes 3 to 1, in whatever order the prompt lists the labels."""
    predictions = Predictions(
        "mine", ("up", "down"), (Answer("d", 0, 0, (0.9, 0.1), reordered=((0.1, 0.9),)),)
    )

    probabilities = calibrated(predictions, Temperature(2.0))

    assert probabilities.probabilities[0] == pytest.approx([0.75, 0.25])
    assert probabilities.reordered[0, 0] == pytest.approx([0.25, 0.75])


def test_temperature_needs_logarithms_up_to_a_constant_only() -> None:
    """A softmax does not say how much of the vocabulary went to the labels."""
    scores = np.log(rows(0.9, 4)) + np.array([[0.0], [-3.0], [5.0], [-20.0]])

    assert fit_temperature(scores, gold(3, 1)) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
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
    scores: Floats, truth: np.ndarray, expected: float
) -> None:
    assert calibration_error(scores, truth) == pytest.approx(expected)


def test_confidence_is_in_the_most_probable_label() -> None:
    """Of three labels the last is said, and true, with 0.5."""
    shares = np.tile([0.2, 0.3, 0.5], (2, 1))

    assert calibration_error(shares, np.array([2, 0])) == pytest.approx(0.0)


def test_bins_say_how_often_the_confident_are_right() -> None:
    """Those that hold an answer, the least confident first."""
    scores = np.vstack([rows(0.9, 4), rows(0.6, 6)])

    low, high = reliability(scores, gold(3, 7))

    assert (low.share, low.confidence, low.accuracy) == pytest.approx((0.6, 0.6, 0.0))
    assert (high.share, high.confidence, high.accuracy) == pytest.approx((0.4, 0.9, 0.75))


def askew(seed: int, count: int = 3000) -> tuple[Floats, Ints]:
    """Three labels, sure of the first beyond its truth and shy of the others."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet([1.0, 1.0, 1.0], count)
    right = (truth.cumsum(1) > rng.random((count, 1))).argmax(1)
    return np.log(truth) + np.array([1.5, 0.0, 0.0]), right


def test_biases_take_back_what_a_label_is_said_too_often() -> None:
    """The first label is given 1.5 nats too many, relative to each of the others."""
    scores, right = askew(1)
    unseen, truth = askew(2)

    calibration = fit_bias_corrected(scores, right)

    first, second, third = calibration.biases
    assert second - first == pytest.approx(1.5, abs=0.15)
    assert third - first == pytest.approx(1.5, abs=0.15)
    assert calibration.temperature.value == pytest.approx(1.0, abs=0.05)
    assert calibration_error(calibration(unseen), truth) < 0.03


def test_biases_of_what_is_calibrated_are_nearly_none() -> None:
    scores, right = askew(1, 20_000)
    scores -= np.array([1.5, 0.0, 0.0])

    calibration = fit_bias_corrected(scores, right)

    assert np.abs(calibration.biases).max() < 0.05
    assert calibration.temperature.value == pytest.approx(1.0, abs=0.05)


def test_label_without_an_utterance_stays_possible() -> None:
    """Its bias is finite, and lowers what the model gives the label."""
    scores, right = askew(1)
    seen = right != 2

    calibration = fit_bias_corrected(scores[seen], right[seen])

    assert calibration.biases[2] < calibration.biases[1] - 0.5
    assert 0.0001 < calibration(scores)[:, 2].mean() < Temperature()(scores)[:, 2].mean()


@pytest.mark.parametrize("count", [1, 2])
def test_biases_are_fitted_to_an_utterance_or_two(count: int) -> None:
    scores, right = askew(3, count)

    calibration = fit_bias_corrected(scores, right)

    assert calibration(scores)[0, right[0]] > Temperature()(scores)[0, right[0]]


def test_curves_mend_what_no_temperature_can() -> None:
    """A label that is always said too surely, on utterances that were not fitted on."""
    scores, right = askew(1)
    unseen, truth = askew(2)

    by_label = calibration_error(fit_isotonic(scores, right)(unseen), truth)
    together = calibration_error(Temperature(fit_temperature(scores, right))(unseen), truth)

    assert by_label < 0.03
    assert together > 0.05


def test_curves_of_what_is_calibrated_are_nearly_straight() -> None:
    scores, right = askew(1, 20_000)
    scores -= np.array([1.5, 0.0, 0.0])

    probabilities = fit_isotonic(scores, right)(scores)

    assert np.abs(probabilities - np.exp(scores)).mean() < 0.02


def test_curve_is_the_truth_where_confidence_takes_few_values() -> None:
    """0.9 is right in 3 of 4 cases and 0.6 in none of 6; never is 1 in 10 + 2, not 0."""
    scores = np.vstack([rows(0.9, 4), rows(0.6, 6)])

    first, second = fit_isotonic(np.log(scores), gold(3, 7)).curves

    assert [share for share, _ in first] == pytest.approx([0.6, 0.9])
    assert [truth for _, truth in first] == pytest.approx([1 / 12, 0.75])
    assert [share for share, _ in second] == pytest.approx([0.1, 0.4])
    assert [truth for _, truth in second] == pytest.approx([0.25, 11 / 12])


@pytest.mark.parametrize("count", [1, 2, 30, 3000])
def test_curves_are_ones_that_a_bundle_can_hold(count: int) -> None:
    """Of few utterances and of many; the ends are kept."""
    scores, right = askew(3, count)

    for label, knots in enumerate(fit_isotonic(scores, right).curves):
        shares = Temperature()(scores)[:, label]
        assert 1 <= len(knots) <= MOST_KNOTS
        assert (knots[0][0], knots[-1][0]) == (shares.min(), shares.max())


def test_curves_of_many_steps_are_thinned() -> None:
    """A share of utterances that rises with the model's own, in 1,000 steps."""
    share = np.repeat(np.linspace(0.001, 0.999, 1000), 1000)
    right = np.tile(np.arange(1000), 1000) >= np.repeat(np.arange(1000), 1000)

    first, _ = fit_isotonic(np.log(np.stack([share, 1 - share], 1)), right.astype(int)).curves

    assert len(first) == MOST_KNOTS
    assert Isotonic((first, first))(np.log([0.7, 0.3])) == pytest.approx([0.7, 0.3], abs=0.01)


def spoken(scores: Floats, right: Ints, utterances: int = 10) -> Predictions:
    """In dialogues of so many utterances."""
    return Predictions(
        "mine",
        ("a", "b", "c"),
        tuple(
            Answer(f"d{n // utterances}", n, int(label), tuple(Temperature()(row).tolist()), 0.9)
            for n, (row, label) in enumerate(zip(scores, right, strict=True))
        ),
    )


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_answers_are_calibrated_as_the_service_would(fit: Fit) -> None:
    """Nothing else of them changes."""
    predictions = spoken(*askew(4, 60))
    calibration = fitted(predictions, fit)

    probabilities = calibrated(predictions, calibration)

    assert probabilities.probabilities == pytest.approx(
        calibration(np.log(predictions.probabilities))
    )
    assert [(a.dialogue, a.index, a.gold, a.label_mass) for a in probabilities.answers] == [
        (a.dialogue, a.index, a.gold, a.label_mass) for a in predictions.answers
    ]


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_cross_fitted_answers_owe_nothing_to_their_own_labels(fit: Fit) -> None:
    """Other gold labels in a dialogue leave its answers alone, and change others'."""
    scores, right = askew(5, 100)
    changed = right.copy()
    changed[:10] = (changed[:10] + 1) % 3

    one, other = (cross_calibrated(spoken(scores, gold), fit) for gold in (right, changed))

    assert (one.probabilities[:10] == other.probabilities[:10]).all()
    assert (one.probabilities[10:20] != other.probabilities[10:20]).any()


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_single_dialogue_has_nothing_to_be_calibrated_by(fit: Fit) -> None:
    predictions = spoken(*askew(6, 8))

    assert cross_calibrated(predictions, fit) == predictions


def test_cross_fitting_does_not_flatter() -> None:
    """Labels drawn at random: curves seem to explain them, and do not on other dialogues."""
    rng = np.random.default_rng(7)
    predictions = spoken(rng.normal(size=(300, 3)), rng.integers(0, 3, 300))

    in_sample = calibrated(predictions, fitted(predictions, fit_isotonic))
    honest = cross_calibrated(predictions, fit_isotonic)

    assert (in_sample.probabilities.argmax(1) == predictions.gold).mean() > 0.38
    assert (honest.probabilities.argmax(1) == predictions.gold).mean() < 0.36


def test_best_calibration_is_the_one_that_does_best_on_other_dialogues() -> None:
    """Biases, where a label is said too often; a temperature, where nothing else is wrong."""
    scores, right = askew(8, 1000)
    straight = scores - np.array([1.5, 0.0, 0.0])

    assert best_fit(spoken(scores, right)) is FITS["bias-corrected"]
    assert best_fit(spoken(2 * straight, right)) is FITS["temperature"]


def test_little_data_get_the_simplest_calibration() -> None:
    """What ten utterances gain by biases may be chance."""
    assert best_fit(spoken(*askew(9, 10), 2)) is FITS["temperature"]


def test_single_dialogue_gets_the_simplest_calibration() -> None:
    """No other dialogue can tell which is best."""
    assert best_fit(spoken(*askew(6, 8))) is FITS["temperature"]


@pytest.mark.parametrize("name", ["temperature", "bias-corrected"])
def test_calibration_is_fitted_to_the_shares_that_labels_should_have(name: str) -> None:
    """As to a split that has them: each utterance of the first label counts twice as much."""
    scores, right = askew(10, 2000)
    first = np.flatnonzero(right == 0)
    counts = np.bincount(right) * np.array([2, 1, 1])

    twice = np.concatenate([np.arange(len(right)), first])
    expected = FITS[name](scores[twice], right[twice], np.ones(len(twice)))
    calibration = fitted(spoken(scores, right), FITS[name], counts / counts.sum())

    assert calibration(scores) == pytest.approx(expected(scores), abs=2e-3)
    unweighted = fitted(spoken(scores, right), FITS[name])
    assert np.abs(unweighted(scores) - expected(scores)).max() > 0.01


def test_utterances_count_alike_where_no_label_here_has_a_share() -> None:
    """What a bundle was trained on may know none of a split's labels."""
    gold = np.array([0, 0, 1])

    assert (label_weights(gold, np.array([0.0, 0.0, 1.0])) == 1).all()
    assert (label_weights(gold, None) == 1).all()
    assert label_weights(gold, np.array([0.5, 0.5, 0.0])) == pytest.approx([0.75, 0.75, 1.5])
