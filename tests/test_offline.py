"""What scoring a file reads before anything starts, and how much of it at once."""

import os
import threading
from pathlib import Path

import pytest

from service import offline
from service.conversation.dialogue import Dialogue, Utterance
from service.dialogue_files import DialogueFormatError, Reading
from service.offline import Part, _reader, _surveyed, chunks
from service.scored_files import Output, OutputMismatch

TALK = Dialogue("d", (Utterance("Ann", "We won!"), Utterance("Bo", "No way.")))
BROKEN = DialogueFormatError("in.jsonl:7: id is missing")


def test_the_survey_counts_and_keeps_the_first_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may consist of them."""
    monkeypatch.setattr(offline, "REPORTED", 2)

    assert _surveyed([TALK, BROKEN, TALK], Output.JSONL) == (4, 1, (str(BROKEN),))
    assert _surveyed([TALK, *[BROKEN] * 5], Output.CSV) == (2, 5, (str(BROKEN),) * 2)


def test_a_file_without_any_dialogue_is_refused_with_its_first_error() -> None:
    with pytest.raises(DialogueFormatError, match=r"in\.jsonl:7"):
        _surveyed([BROKEN, DialogueFormatError("other")], Output.JSONL)


def test_dialogues_that_cannot_be_written_are_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(OutputMismatch, match="no start"):
        _surveyed([TALK], Output.WEBVTT)


def test_dialogues_and_errors_are_read_in_portions() -> None:
    """In order; a portion ends with many parts or many utterances."""
    parts: list[Part] = [TALK, TALK, BROKEN, BROKEN, BROKEN, TALK]

    assert [*chunks(parts, most_dialogues=3, most_utterances=4)] == [
        [TALK, TALK],
        [BROKEN, BROKEN, BROKEN],
        [TALK],
    ]


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """And a file as often as it is needed."""
    line = '{"id": "a", "utterances": [{"speaker": "Ann", "text": "Hi."}]}\n'
    file, pipe = tmp_path / "in.jsonl", tmp_path / "pipe"
    file.write_text(line)
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(line,), daemon=True).start()

    for path in (file, pipe):
        parts = _reader(path, Reading())
        assert [*parts()] == [*parts()] == [Dialogue("a", (Utterance("Ann", "Hi."),))]
