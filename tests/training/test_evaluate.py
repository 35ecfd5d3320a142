"""What a bundle's predictions are worth, and where it is written."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.conversation.calibration import Calibration, Isotonic, Temperature
from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from service.decoding.bundle import (
    FILE,
    Bundle,
    BundleError,
    TrainedLabels,
    read_bundle,
    trained_labels,
    write_bundle,
)
from service.decoding.engine import Priority, Reading
from service.decoding.tokenizer import Tokenizer
from service.errors import ForecastNotSupported, UtteranceTooLong
from service.recognition.pipeline import Recognizer, open_recognizer
from tests.recognition.conftest import Words
from tests.training.conftest import described
from training.calibration import calibrated, calibration_error, cross_fitted, fit_isotonic
from training.evaluate import (
    Kind,
    Scores,
    ask,
    ask_ahead,
    keep,
    record,
    score,
    uncalibrated,
)
from training.free_decoding import with_spoken
from training.label_orders import with_other_orders
from training.predictions import Answer, Predictions, read_predictions

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


def test_scores_are_by_the_bundles_temperature_and_by_the_best_one() -> None:
    """81 to 1 is 9 to 1 at 2, and 3 to 1 at 4."""
    found = score(surely(6), UP_AND_DOWN.calibrated(Temperature(2.0)))

    assert (found.utterances, found.accuracy, found.label_mass) == (24, 75.0, 0.98)
    assert found.calibration_error == pytest.approx(0.15)
    assert found.micro_f1 == found.to_json()["micro_f1"] == 75.0  # no label is neutral
    assert isinstance(found.fitted, Temperature)
    assert found.calibrated_error == pytest.approx(0.0, abs=0.005)
    assert found.brier == pytest.approx((3 * 0.02 + 1.62) / 4)
    assert found.calibrated_brier == pytest.approx((3 * 0.125 + 1.125) / 4, abs=0.001)
    assert found.demonstration_agreement == 75.0
    assert found.to_json()["temperature"] == pytest.approx(4.0, rel=0.01)


def test_scores_may_be_by_a_curve_for_each_label() -> None:
    """Each utterance by what fits other dialogues; the bundle gets what fits all of them."""
    rng = np.random.default_rng(1)
    said = predictions(
        *(
            Answer(f"d{n // 5}", n, int(rng.random() < 0.5 * down), (1 - down, down))
            for n, down in enumerate(rng.random(200).tolist())
        )
    )
    expected = cross_fitted(said, fit_isotonic)

    found = score(said, UP_AND_DOWN, "isotonic")

    assert isinstance(found.fitted, Isotonic)
    assert found.calibrated_error == round(
        calibration_error(expected.probabilities, expected.gold), 4
    )
    assert found.calibrated_accuracy > found.accuracy + 5
    assert found.calibrated_brier < found.brier
    assert found.to_json()["calibration"] == "isotonic"


def test_orders_of_labels_are_judged_by_what_the_service_would_say() -> None:
    """Curves may flip an answer, or undo that an order flipped it."""
    shares = ((0.6, 0.4), (0.4, 0.6), (0.45, 0.55), (0.2, 0.8))
    said, other = (
        predictions(*(Answer("d", n, 0, shares[place]) for n, place in enumerate(places)))
        for places in ((0, 0, 0, 3), (1, 2, 0, 3))
    )
    # Up is said from 0.45 on.
    curves = Isotonic((((0.4, 0.1), (0.45, 0.6)), ((0.4, 0.1), (0.55, 0.1), (0.6, 0.4))))

    asked = with_other_orders(said, [other, said])

    assert score(asked, UP_AND_DOWN).label_order_flip_rate == 0.25
    assert score(asked, UP_AND_DOWN.calibrated(curves)).label_order_flip_rate == 0.125
    assert score(said, UP_AND_DOWN).label_order_flip_rate is None


def test_what_the_model_freely_says_is_held_against_what_the_service_would() -> None:
    """Up by the model, down by the curves; "upwards" is no label."""
    said = predictions(*(Answer("d", n, 0, (0.6, 0.4)) for n in range(4)))
    curves = Isotonic((((0.5, 0.2),), ((0.5, 0.3),)))
    texts = ["up", "down", "upwards", "up"]

    asked = with_spoken(said, texts, UP_AND_DOWN.verbalizers)

    found = score(asked, UP_AND_DOWN)
    assert (found.invalid_rate, found.free_decode_agreement) == (0.25, 0.5)
    found = score(asked, UP_AND_DOWN.calibrated(curves))
    assert (found.invalid_rate, found.free_decode_agreement) == (0.25, 0.25)
    assert score(said, UP_AND_DOWN).to_json()["invalid_rate"] is None


def test_without_demonstrations_there_is_no_agreement_of_theirs() -> None:
    found = score(predictions(Answer("d", 0, 0, (0.9, 0.1))), UP_AND_DOWN)

    assert found.demonstration_agreement is None


@pytest.fixture
def folder(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> Path:
    """A bundle of two label spaces, not yet calibrated."""
    write_bundle(described(spaces["meld"], spaces["unified"]), tmp_path)
    return tmp_path


WARM = Temperature(1.5)


def scores(label_space: str, fitted: Calibration = WARM) -> Scores:
    """54.4, 43.3, 50.5, 65.5 and 0.05 when calibrated."""
    return Scores(
        *(label_space, 100, 55.5, 44.4, 51.5, 66.6, 0.6, 0.2, fitted),
        *(54.4, 43.3, 50.5, 65.5, 0.5, 0.05, 0.98, None),
        dict.fromkeys(("neutral", "surprise", "fear", "sadness", "disgust"), 0.0)
        | {"joy": 0.75, "anger": 0.25},
    )


@pytest.mark.parametrize("fitted", [Temperature(1.5), Isotonic((((0.1, 1 / 3), (0.7, 0.8)),) * 7)])
def test_scores_are_written_where_the_service_reads_the_calibration(
    fitted: Calibration, folder: Path
) -> None:
    """With the scores that hold when calibrated so; nothing else changes."""
    before = read_bundle(folder)

    record([scores("meld", fitted)], folder)

    after = read_bundle(folder)
    assert after.label_spaces["meld"].calibration == fitted
    assert after.label_spaces["meld"].development == {
        "utterances": 100,
        "weighted_f1": 54.4,
        "macro_f1": 43.3,
        "micro_f1": 50.5,
        "accuracy": 65.5,
        "calibration_error": 0.05,
    }
    assert after.label_spaces["meld"].predicted["joy"] == 0.75
    assert after.label_spaces["meld"].verbalizers == before.label_spaces["meld"].verbalizers
    assert after.label_spaces["unified"] == before.label_spaces["unified"]
    assert after.model_copy(update={"label_spaces": before.label_spaces}) == before


def test_scores_of_another_bundle_are_refused(folder: Path) -> None:
    """And none of them is written."""
    before = (folder / FILE).read_bytes()

    with pytest.raises(BundleError, match="was not trained on emorynlp"):
        record([scores("meld"), scores("emorynlp")], folder)

    assert (folder / FILE).read_bytes() == before


def test_predictions_are_kept_as_the_model_said_them(folder: Path, tmp_path: Path) -> None:
    """Whatever calibration the bundle has, or gets."""
    said = replace(surely(6), label_space="meld")
    path = tmp_path / "said.jsonl"

    keep([said], [scores("meld")], [folder], path)

    assert read_predictions(path) == {"meld": said}


def test_file_of_predictions_means_that_scores_are_recorded(folder: Path, tmp_path: Path) -> None:
    """An experiment that was stopped before the file was there does the step again."""
    said = replace(surely(6), label_space="meld")

    with pytest.raises(OSError, match="nowhere"):
        keep([said], [scores("meld")], [folder], tmp_path / "nowhere" / "said.jsonl")

    assert read_bundle(folder).label_spaces["meld"].calibration == WARM


class Moody:
    """A label engine with an opinion of its own on every prompt."""

    async def read(
        self, prompt: Sequence[int], candidates: Sequence[int], priority: Priority
    ) -> Reading:
        weights = np.random.default_rng(list(prompt)).dirichlet(np.ones(len(candidates) + 1))
        return Reading(tuple(map(math.log, weights[:-1])), 0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


TALKS = tuple(
    Dialogue(
        f"d{n}",
        (
            Utterance("Ann", f"This is talk {n}.", "Joy" if n % 2 else "anger", id=f"u{n}"),
            Utterance("Bo", "I see."),
            Utterance("Ann", f"It was number {n}.", "neutral"),
        ),
    )
    for n in range(8)
)


@pytest.fixture
def words() -> Words:
    return Words()


def recognizer(bundle: Bundle, spaces: Mapping[str, LabelSpace], words: Words) -> Recognizer:
    return open_recognizer(bundle, Tokenizer(words.encode, (0,), 1), spaces, Moody(), None)


def test_every_labelled_utterance_is_asked(
    folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    """Those without a label are context; labels are found without regard to case."""
    asked = recognizer(read_bundle(folder), spaces, words)

    found = asyncio.run(ask(asked, spaces["meld"], TALKS, asyncio.Semaphore(4)))

    assert [(a.dialogue, a.index, a.utterance) for a in found.answers] == [
        (f"d{n}", index, utterance)
        for n in range(8)
        for index, utterance in ((0, f"u{n}"), (2, None))
    ]
    assert [found.labels[a.gold] for a in found.answers[:4]] == [
        *("anger", "neutral", "joy", "neutral")
    ]


def test_turn_is_forecast_from_those_before_it(
    folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    """Every labelled one but the first of its dialogue, by a bundle that was trained to."""
    bundle = read_bundle(folder).model_copy(update={"tasks": ("main", "prediction")})
    asked = recognizer(bundle, spaces, words)

    found = asyncio.run(ask_ahead(asked, spaces["meld"], TALKS, asyncio.Semaphore(4)))

    assert [(a.dialogue, a.index, found.labels[a.gold]) for a in found.answers] == [
        (f"d{n}", 2, "neutral") for n in range(8)
    ]
    main = asyncio.run(ask(asked, spaces["meld"], TALKS, asyncio.Semaphore(4)))
    assert found.answers[0].probabilities != main.answers[1].probabilities


def test_bundle_that_was_not_trained_to_forecast_says_so(
    folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    asked = recognizer(read_bundle(folder), spaces, words)

    with pytest.raises(ForecastNotSupported):
        asyncio.run(ask_ahead(asked, spaces["meld"], TALKS, asyncio.Semaphore(4)))


def test_utterance_that_does_not_fit_ends_it(
    folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    """A score of the others would be of another corpus."""
    talk = Dialogue("long", (Utterance("Ann", "word " * 100, "joy"),))

    with pytest.raises(UtteranceTooLong, match="dialogue 'long'"):
        asyncio.run(
            ask(
                recognizer(read_bundle(folder), spaces, words),
                *(spaces["meld"], [talk], asyncio.Semaphore(4)),
            )
        )


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_service_answers_with_the_probabilities_that_were_measured(
    kind: Kind, folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    """Fitted, written, read and applied by the recognizer; and fitted anew from the same."""

    def said(bundle: Bundle) -> Predictions:
        asked = recognizer(bundle, spaces, words)
        return asyncio.run(ask(asked, spaces["meld"], TALKS, asyncio.Semaphore(4)))

    raw = said(uncalibrated(read_bundle(folder)))
    scored = score(raw, trained_labels(spaces["meld"]), kind)
    record([scored], folder)
    recorded = read_bundle(folder)

    served = said(recorded)

    expected = calibrated(raw, scored.fitted)
    assert served.probabilities == pytest.approx(expected.probabilities, rel=1e-9)
    assert served.probabilities != pytest.approx(raw.probabilities, rel=0.01)
    again = said(uncalibrated(recorded))
    assert score(again, recorded.label_spaces["meld"], kind).fitted == scored.fitted
    labels = [served.labels[place] for place in served.probabilities.argmax(axis=1)]
    assert recorded.label_spaces["meld"].predicted == pytest.approx(
        {name: labels.count(name) / len(labels) for name in served.labels}, abs=0.0001
    )
