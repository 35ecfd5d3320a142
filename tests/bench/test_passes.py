"""No two passes say the same, so that no cache serves one with what it kept of another."""

from itertools import islice
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.dialogue_files import write_dialogues
from tests.bench.machine import REPOSITORY
from tests.bench.passes import WARM_UP, dialogues_from, passes_of_file, synthetic_passes
from tests.bench.shape import shape_of

SAID = Dialogue(
    "ferry",
    (
        Utterance("Ann", "We caught the ferry after all!"),
        Utterance("Bo", "I lost my hat in the wind."),
    ),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_dialogues([SAID, Dialogue("silence", ())], tmp_path / "dialogues.jsonl")
    return tmp_path / "dialogues.jsonl"


def test_synthetic_passes_have_one_shape_and_different_words() -> None:
    """The warm-up is a pass like the others."""
    passes = synthetic_passes(REPOSITORY / "data" / "demonstrations.jsonl")

    shapes = {shape_of(passes(number)) for number in (WARM_UP, 0, 1)}
    first_words = {passes(number)[0].utterances[0].text for number in (WARM_UP, 0, 1)}
    assert len(shapes) == 1
    assert len(first_words) == 3


def test_the_first_pass_of_a_file_is_the_file(file: Path) -> None:
    """Save for dialogues in which nobody speaks."""
    assert passes_of_file(file)(0) == (SAID,)


def test_a_later_pass_of_a_file_says_the_same_words_in_disorder(file: Path) -> None:
    """Lengths and words stay, and with them what a prompt costs."""
    later = passes_of_file(file)(1)[0]

    for before, after in zip(SAID.utterances, later.utterances, strict=True):
        assert after.speaker == before.speaker
        assert after.text != before.text
        assert sorted(after.text.split()) == sorted(before.text.split())


def test_passes_follow_each_other_without_end(file: Path) -> None:
    """Each dialogue under an id of its own."""
    ids = [dialogue.id for dialogue in islice(dialogues_from(passes_of_file(file), 1), 5)]

    assert len(set(ids)) == 5


def test_a_file_in_which_nobody_speaks_is_refused(tmp_path: Path) -> None:
    """There would be nothing to measure."""
    write_dialogues([Dialogue("silence", ())], tmp_path / "dialogues.jsonl")

    with pytest.raises(ValueError, match="no utterance"):
        passes_of_file(tmp_path / "dialogues.jsonl")
