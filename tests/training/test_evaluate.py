"""What a bundle says and what that is worth, and where it is written."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from service.decoding.bundle import (
    FILE,
    Base,
    Bundle,
    BundleError,
    Window,
    read_bundle,
    trained_labels,
    write_bundle,
)
from service.decoding.engine import Priority, Reading
from service.decoding.tokenizer import Tokenizer
from service.recognition.pipeline import open_recognizer
from service.settings import Settings
from training import evaluate as evaluation
from training.evaluate import Scores, record, score
from training.predictions import Answer, Predictions


def predictions(*answers: Answer) -> Predictions:
    return Predictions("meld", ("up", "down"), answers)


def test_scores_are_of_the_bundles_temperature_and_of_the_best_one() -> None:
    """Says 9 to 1 at temperature 2 where 3 to 1 is true: 81 to 1 at 1, so 4 is best."""
    answers = [Answer("d", n, int(n == 3), (0.9, 0.1), 0.98, ("up",)) for n in range(4)]

    found = score(predictions(*answers), temperature=2.0)

    assert (found.utterances, found.accuracy, found.label_mass) == (4, 75.0, 0.98)
    assert found.calibration_error == pytest.approx(0.15)
    assert found.temperature == pytest.approx(4.0, rel=0.01)
    assert found.calibrated_error == pytest.approx(0.0, abs=0.005)
    assert found.brier == pytest.approx((3 * 0.02 + 1.62) / 4)
    assert found.calibrated_brier == pytest.approx((3 * 0.125 + 1.125) / 4, abs=0.001)
    assert found.demonstration_agreement == 75.0


def test_without_demonstrations_there_is_no_agreement_of_theirs() -> None:
    found = score(predictions(Answer("d", 0, 0, (0.9, 0.1))), temperature=1.0)

    assert found.demonstration_agreement is None


@pytest.fixture
def folder(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> Path:
    """A bundle of two label spaces, not yet calibrated."""
    bundle = Bundle(
        format=1,
        name="b",
        version="1",
        base=Base(name="base", revision="none"),
        template="v2",
        window=Window(lowest=1, highest=2),
        max_tokens=64,
        demonstrations=0,
        label_spaces={name: trained_labels(spaces[name]) for name in ("meld", "unified")},
        encoder="none",
        data={},
        code_version="test",
    )
    write_bundle(bundle, tmp_path)
    return tmp_path


class Joyful:
    """An engine that gives nine tenths to the label that is listed fifth."""

    async def read(
        self, prompt: Sequence[int], candidates: Sequence[int], priority: Priority
    ) -> Reading:
        return Reading(
            tuple(math.log(0.9 if place == 4 else 0.01) for place in range(len(candidates))), 0
        )

    async def check(self) -> None: ...

    async def close(self) -> None: ...


async def test_every_labelled_utterance_is_answered_under_its_id(
    folder: Path,
    spaces: Mapping[str, LabelSpace],
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it has one; those without a label are context only. The engine is scripted."""
    recognizer = open_recognizer(read_bundle(folder), tokenizer, spaces, Joyful(), None)

    @asynccontextmanager
    async def parts(*_: object, **__: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(recognizer=recognizer)

    monkeypatch.setattr(evaluation, "open_parts", parts)
    said = (
        Utterance("Ann", "Hurrah!", "joy", id="u1"),
        Utterance("Bo", "Hm.", id="u2"),
        Utterance("Ann", "Alas.", "Sadness", id="u5"),
    )
    dialogues = [Dialogue("d0", said), Dialogue("d1", (Utterance("Cy", "Well.", "neutral"),))]

    (found,) = await evaluation.evaluate(
        Settings(), [(spaces["meld"], dialogues)], folder, False, lambda _: None
    )

    assert [(a.dialogue, a.index, a.utterance) for a in found.answers] == [
        *(("d0", 0, "u1"), ("d0", 2, "u5"), ("d1", 0, None))
    ]
    assert [found.labels[gold] for gold in found.gold] == ["joy", "sadness", "neutral"]
    assert [found.labels[place] for place in found.probabilities.argmax(1)] == ["joy"] * 3


def scores(label_space: str) -> Scores:
    return Scores(label_space, 100, 55.5, 44.4, 66.6, 0.6, 0.2, 1.5, 0.5, 0.05, 0.98, None)


def test_scores_are_written_where_the_service_reads_the_temperature(
    folder: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """With the calibration error that holds at this temperature; nothing else changes."""
    before = read_bundle(folder)

    record([scores("meld")], folder)

    after = read_bundle(folder)
    assert after.label_spaces["meld"].temperature == 1.5
    assert after.label_spaces["meld"].development == {
        "utterances": 100,
        "weighted_f1": 55.5,
        "macro_f1": 44.4,
        "accuracy": 66.6,
        "calibration_error": 0.05,
    }
    assert after.label_spaces["meld"].verbalizers == before.label_spaces["meld"].verbalizers
    assert after.label_spaces["unified"] == before.label_spaces["unified"]
    assert after.model_copy(update={"label_spaces": before.label_spaces}) == before


def test_scores_of_another_bundle_are_refused(folder: Path) -> None:
    """And none of them is written."""
    before = (folder / FILE).read_bytes()

    with pytest.raises(BundleError, match="was not trained on emorynlp"):
        record([scores("meld"), scores("emorynlp")], folder)

    assert (folder / FILE).read_bytes() == before
