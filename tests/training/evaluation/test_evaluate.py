"""What a bundle answers when it is asked about every labelled utterance."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from service.decoding.bundle import Bundle, read_bundle, trained_labels
from service.decoding.engine import Reading
from service.decoding.tokenizer import Tokenizer
from service.errors import ForecastNotSupported
from service.priority import Priority
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from tests.recognition.conftest import Words
from training.evaluation.calibration import calibrated
from training.evaluation.evaluate import ask, ask_ahead, uncalibrated
from training.evaluation.predictions import Predictions
from training.evaluation.scores import Kind, record, score


class Moody:
    """A label engine with an opinion of its own on every prompt."""

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
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
    asking = recognizer(read_bundle(folder), spaces, words)

    answers = asyncio.run(ask(asking, spaces["meld"], TALKS, asyncio.Semaphore(4)))

    assert [(a.dialogue, a.index, a.utterance) for a in answers.answers] == [
        (f"d{n}", index, utterance)
        for n in range(8)
        for index, utterance in ((0, f"u{n}"), (2, None))
    ]
    assert [answers.labels[a.gold] for a in answers.answers[:4]] == [
        *("anger", "neutral", "joy", "neutral")
    ]


def test_turn_is_forecast_from_those_before_it(
    folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    """Every labelled one but the first of its dialogue, by a bundle that was trained to."""
    bundle = read_bundle(folder).model_copy(update={"tasks": ("main", "prediction")})
    asking = recognizer(bundle, spaces, words)

    answers = asyncio.run(ask_ahead(asking, spaces["meld"], TALKS, asyncio.Semaphore(4)))

    assert [(a.dialogue, a.index, answers.labels[a.gold]) for a in answers.answers] == [
        (f"d{n}", 2, "neutral") for n in range(8)
    ]
    main = asyncio.run(ask(asking, spaces["meld"], TALKS, asyncio.Semaphore(4)))
    assert answers.answers[0].probabilities != main.answers[1].probabilities


def test_bundle_that_was_not_trained_to_forecast_says_so(
    folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    asking = recognizer(read_bundle(folder), spaces, words)

    with pytest.raises(ForecastNotSupported):
        asyncio.run(ask_ahead(asking, spaces["meld"], TALKS, asyncio.Semaphore(4)))


def test_utterance_that_does_not_fit_is_scored_by_its_end(
    folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    """And told of; all others are scored as ever."""
    talk = Dialogue("long", (Utterance("Ann", "word " * 100, "joy"), *TALKS[0].utterances))
    asking = recognizer(read_bundle(folder), spaces, words)

    answers = asyncio.run(ask(asking, spaces["meld"], [talk], asyncio.Semaphore(4)))

    assert [answer.truncated for answer in answers.answers].count(True) == 1
    assert answers.answers[0].truncated


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_service_answers_with_the_probabilities_that_were_measured(
    kind: Kind, folder: Path, spaces: Mapping[str, LabelSpace], words: Words
) -> None:
    """Fitted, written, read and applied by the recognizer; and fitted anew from the same."""

    def said(bundle: Bundle) -> Predictions:
        asking = recognizer(bundle, spaces, words)
        return asyncio.run(ask(asking, spaces["meld"], TALKS, asyncio.Semaphore(4)))

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
