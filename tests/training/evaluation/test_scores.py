"""What a bundle's answers are worth, and where it is written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.conversation.calibration import BiasCorrected, Calibration, Isotonic, Temperature
from service.conversation.prompts import Task
from service.decoding.bundle import FILE, BundleError, TrainedLabels, read_bundle
from service.files import OutputError
from training.evaluation.calibration import calibration_error, cross_calibrated, fit_isotonic
from training.evaluation.free_decoding import with_spoken
from training.evaluation.label_orders import with_other_orders
from training.evaluation.metrics import measure
from training.evaluation.predictions import Answer, Predictions, read_predictions
from training.evaluation.scores import Scores, keep, record, score

UP_AND_DOWN = TrainedLabels(verbalizers={"up": "up", "down": "down"})


def predictions(*answers: Answer) -> Predictions:
    return Predictions("meld", ("up", "down"), answers)


def surely(dialogues: int) -> Predictions:
    """Says 81 to 1 where 3 to 1 is true, in every dialogue."""
    return predictions(
        *(
            Answer(f"d{dialogue}", n, int(n == 3), (81 / 82, 1 / 82), 0.98, ("up",))
            for dialogue in range(dialogues)
            for n in range(4)
        )
    )


def uneven() -> Predictions:
    """100 utterances, of which 80 are labelled rightly, and each answer three quarters sure."""
    how_often = {(0, 0): 60, (0, 1): 10, (1, 1): 15, (1, 0): 5, (2, 2): 5, (2, 1): 5}
    answers = [
        (gold, tuple(0.75 if place == label else 0.125 for place in range(3)))
        for (gold, label), count in how_often.items()
        for _ in range(count)
    ]
    return Predictions(
        "meld",
        ("neutral", "joy", "anger"),
        tuple(Answer("d", n, gold, shares) for n, (gold, shares) in enumerate(answers)),
    )


def test_scores_are_by_the_bundles_temperature_and_by_the_best_one() -> None:
    """81 to 1 is 9 to 1 at 2, and 3 to 1 at 4."""
    scores = score(surely(6), UP_AND_DOWN.calibrated(Temperature(2.0)))

    printed = scores.to_json()
    assert (printed["utterances"], printed["accuracy"], printed["label_mass"]) == (24, 75.0, 0.98)
    assert printed["calibration_error"] == pytest.approx(0.15)
    assert printed["micro_f1"] == 75.0  # no label is neutral
    assert isinstance(scores.fitted, Temperature)
    assert printed["calibrated_error"] == pytest.approx(0.0, abs=0.005)
    assert printed["brier"] == pytest.approx((3 * 0.02 + 1.62) / 4)
    assert printed["calibrated_brier"] == pytest.approx((3 * 0.125 + 1.125) / 4, abs=0.001)
    assert printed["demonstration_agreement"] == 75.0
    assert printed["temperature"] == pytest.approx(4.0, rel=0.01)


def test_predictions_are_beside_what_is_always_the_labels_shares() -> None:
    """Shares that hold here too have the least Brier score of what says the same each time."""
    known = UP_AND_DOWN.model_copy(update={"trained": {"up": 0.75, "down": 0.25}})

    assert score(surely(6), known).to_json()["brier_of_shares"] == 0.375
    assert score(surely(6), UP_AND_DOWN).to_json()["brier_of_shares"] is None


def test_scores_may_be_by_a_curve_for_each_label() -> None:
    """Each utterance by what fits other dialogues; the bundle gets what fits all of them."""
    rng = np.random.default_rng(1)
    spoken = predictions(
        *(
            Answer(f"d{n // 5}", n, int(rng.random() < 0.5 * down), (1 - down, down))
            for n, down in enumerate(rng.random(200).tolist())
        )
    )
    expected = cross_calibrated(spoken, fit_isotonic)

    scores = score(spoken, UP_AND_DOWN, "isotonic")

    assert isinstance(scores.fitted, Isotonic)
    assert scores.mended.calibration_error == calibration_error(
        expected.probabilities, expected.gold
    )
    assert scores.mended.accuracy > scores.served.accuracy + 0.05
    assert scores.mended.brier < scores.served.brier
    assert scores.to_json()["calibration"] == "isotonic"


def test_best_kind_of_calibration_is_fitted_where_none_is_named() -> None:
    """Up is said too often by 2 nats: biases take that back, and accuracy rises."""
    rng = np.random.default_rng(2)
    truths = rng.random(400)
    said = predictions(
        *(
            Answer(f"d{n // 5}", n, int(rng.random() < down), tuple(shares))
            for n, down in enumerate(truths.tolist())
            for shares in [Temperature()(np.log([1 - down, down]) + np.array([2.0, 0.0])).tolist()]
        )
    )

    scores = score(said, UP_AND_DOWN)

    assert isinstance(scores.fitted, BiasCorrected)
    up, down = scores.fitted.biases
    assert down - up == pytest.approx(2.0, abs=0.4)
    assert scores.mended.accuracy > scores.served.accuracy + 0.1
    printed = scores.to_json()
    assert printed["calibration"] == "bias-corrected"
    assert printed["temperature"] == scores.fitted.temperature.value


def test_calibration_is_fitted_to_the_labels_shares_in_training() -> None:
    """Three of four utterances are up here, and one of four there."""
    trained = UP_AND_DOWN.model_copy(update={"trained": {"up": 0.25, "down": 0.75}})

    here, there = (
        score(surely(100), labels, "bias-corrected").fitted for labels in (UP_AND_DOWN, trained)
    )

    said = np.log([81 / 82, 1 / 82])
    assert here(said)[0] == pytest.approx(0.75, abs=0.03)
    assert there(said)[0] == pytest.approx(0.25, abs=0.03)


def test_orders_of_labels_are_judged_by_what_the_service_would_say() -> None:
    """Curves may flip an answer, or undo that an order flipped it."""
    shares = ((0.6, 0.4), (0.4, 0.6), (0.45, 0.55), (0.2, 0.8))
    spoken, other = (
        predictions(*(Answer("d", n, 0, shares[place]) for n, place in enumerate(places)))
        for places in ((0, 0, 0, 3), (1, 2, 0, 3))
    )
    # Up is said from 0.45 on.
    curves = Isotonic((((0.4, 0.1), (0.45, 0.6)), ((0.4, 0.1), (0.55, 0.1), (0.6, 0.4))))

    reordered = with_other_orders(spoken, [other, spoken])

    assert score(reordered, UP_AND_DOWN).served.label_order_flip_rate == 0.25
    assert score(reordered, UP_AND_DOWN.calibrated(curves)).served.label_order_flip_rate == 0.125
    assert score(spoken, UP_AND_DOWN).served.label_order_flip_rate is None


def test_what_the_model_freely_says_is_held_against_what_the_service_would() -> None:
    """Up by the model, down by the curves; "upwards" is no label."""
    spoken = predictions(*(Answer("d", n, 0, (0.6, 0.4)) for n in range(4)))
    curves = Isotonic((((0.5, 0.2),), ((0.5, 0.3),)))
    texts = ["up", "down", "upwards", "up"]

    generated = with_spoken(spoken, texts, UP_AND_DOWN.verbalizers)

    served = score(generated, UP_AND_DOWN).served
    assert (served.invalid_rate, served.free_decode_agreement) == (0.25, 0.5)
    served = score(generated, UP_AND_DOWN.calibrated(curves)).served
    assert (served.invalid_rate, served.free_decode_agreement) == (0.25, 0.25)
    assert score(spoken, UP_AND_DOWN).to_json()["invalid_rate"] is None


def test_without_demonstrations_there_is_no_agreement_of_theirs() -> None:
    scores = score(predictions(Answer("d", 0, 0, (0.9, 0.1))), UP_AND_DOWN)

    assert scores.served.demonstration_agreement is None
    assert scores.to_json()["demonstration_agreement"] is None


WARM = Temperature(1.5)


def scores(label_space: str, fitted: Calibration = WARM, task: Task = "main") -> Scores:
    """As served and, when calibrated, of other answers."""
    served, mended = measure(surely(25)), measure(uneven())
    return Scores(
        label_space,
        task,
        served,
        fitted,
        mended,
        dict.fromkeys(("neutral", "surprise", "fear", "sadness", "disgust"), 0.0)
        | {"joy": 0.75, "anger": 0.25},
        shares_brier=None,
    )


@pytest.mark.parametrize(
    "fitted",
    [
        Temperature(1.5),
        BiasCorrected(Temperature(1.5), tuple(n / 3 for n in range(7))),
        Isotonic((((0.1, 1 / 3), (0.7, 0.8)),) * 7),
    ],
)
def test_scores_are_written_where_the_service_reads_the_calibration(
    fitted: Calibration, folder: Path
) -> None:
    """With the scores that hold when calibrated so; nothing else changes."""
    before = read_bundle(folder)

    record([scores("meld", fitted)], folder)

    after = read_bundle(folder)
    assert after.label_spaces["meld"].calibration() == fitted
    assert after.label_spaces["meld"].development == {
        "utterances": 100,
        "weighted_f1": 80.89,
        "macro_f1": 71.85,
        "micro_f1": 61.54,
        "accuracy": 80.0,
        "calibration_error": 0.05,
    }
    assert after.label_spaces["meld"].predicted["joy"] == 0.75
    assert after.label_spaces["meld"].verbalizers == before.label_spaces["meld"].verbalizers
    assert after.label_spaces["unified"] == before.label_spaces["unified"]
    assert after.model_copy(update={"label_spaces": before.label_spaces}) == before


def test_scores_of_forecasts_leave_those_of_predictions_alone(folder: Path) -> None:
    """Both stand in the bundle, each with its calibration."""
    record([scores("meld")], folder)
    before = read_bundle(folder).label_spaces["meld"]

    record([scores("meld", Temperature(3.0), "prediction")], folder)

    after = read_bundle(folder).label_spaces["meld"]
    assert after.forecasts is not None
    assert after.forecasts.development["weighted_f1"] == 80.89
    assert after.calibration("prediction") == Temperature(3.0)
    assert after.model_copy(update={"forecasts": None}) == before


def test_scores_of_another_bundle_are_refused(folder: Path) -> None:
    """And none of them is written."""
    before = (folder / FILE).read_bytes()

    with pytest.raises(BundleError, match="was not trained on emorynlp"):
        record([scores("meld"), scores("emorynlp")], folder)

    assert (folder / FILE).read_bytes() == before


def test_predictions_are_kept_as_the_model_said_them(folder: Path, tmp_path: Path) -> None:
    """Whatever calibration the bundle has, or gets."""
    spoken = replace(surely(6), label_space="meld")
    path = tmp_path / "said.jsonl"

    keep([spoken], [scores("meld")], [folder], path)

    assert read_predictions(path) == {"meld": spoken}


def test_file_of_predictions_means_that_scores_are_recorded(folder: Path, tmp_path: Path) -> None:
    """An experiment that was stopped before the file was there does the step again."""
    spoken = replace(surely(6), label_space="meld")

    with pytest.raises(OutputError, match="nowhere"):
        keep([spoken], [scores("meld")], [folder], tmp_path / "nowhere" / "said.jsonl")

    assert read_bundle(folder).label_spaces["meld"].calibration() == WARM
