"""Transcripts are read as dialogues, wherever files of dialogues are."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.dialogue_files import DialogueFormatError, read_dialogues
from service.dialogue_format import DialogueIn
from service.transcripts import is_transcript
from training.datasets.reading import look

SEGMENTS: list[dict[str, Any]] = [
    {
        "start": 0.5,
        "end": 1.9,
        "text": " Is the ferry late?",
        "speaker": "SPEAKER_00",
        "words": [{"word": "Is", "start": 0.5, "end": 0.6, "score": 0.1}],
    },
    {"start": 2.0, "end": 2.4, "text": " Hm.", "words": []},
    {"start": 2.4, "end": 2.5, "text": " ", "speaker": "SPEAKER_01"},
    {"start": 2.5, "end": 4.1, "text": " It's here!", "speaker": "SPEAKER_01"},
]
SAID = (
    Utterance("SPEAKER_00", "Is the ferry late?"),
    Utterance("UNKNOWN", "Hm."),
    Utterance("SPEAKER_01", "It's here!"),
)


def written(path: Path, *segments: object, indent: int | None = 1) -> Path:
    document = {"segments": [*segments], "language": "en"}
    path.write_text(json.dumps(document, indent=indent))
    return path


@pytest.mark.parametrize("indent", [None, 1])
def test_a_transcript_is_a_dialogue_named_after_its_file(
    tmp_path: Path, indent: int | None
) -> None:
    """A segment without a speaker is somebody's; one without words is nothing that was said."""
    path = written(tmp_path / "call.v2.json", *SEGMENTS, indent=indent)

    assert list(read_dialogues(path)) == [Dialogue("call.v2", SAID)]


def test_transcripts_on_lines_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(2 * (json.dumps({"segments": SEGMENTS}) + "\n"))

    assert [each.id for each in read_dialogues(path)] == ["calls", "calls:2"]


def test_training_reads_it_too(tmp_path: Path) -> None:
    """So `data check` tells what is in it."""
    reading = look("jsonl", written(tmp_path / "call.json", *SEGMENTS), None)

    assert reading.dialogues == (Dialogue("call", SAID),)


@pytest.mark.parametrize(
    ("segment", "problem"),
    [
        ("Hello.", "segments[1] must be an object"),
        ({"speaker": "A"}, "segments[1].text is missing"),
        ({"speaker": "A", "text": 3}, "segments[1].text must be a string"),
        ({"speaker": 0, "text": "x"}, "segments[1].speaker must be a string"),
        ({"speaker": " ", "text": "x"}, "segments[1].speaker must not be blank"),
        ({"speaker": "A", "text": "\x00"}, "segments[1].text must not contain control characters"),
    ],
)
def test_a_segment_that_is_none_is_named(tmp_path: Path, segment: object, problem: str) -> None:
    path = written(tmp_path / "call.json", SEGMENTS[0], segment)

    with pytest.raises(DialogueFormatError) as refused:
        list(read_dialogues(path))
    assert str(refused.value) == f"{path}:1: {problem}"


def test_a_dialogue_is_never_taken_for_a_transcript() -> None:
    """Whatever the format may get, it has an id and utterances."""
    required = {name for name, info in DialogueIn.model_fields.items() if info.is_required()}

    assert required == {"id", "utterances"}
    assert not is_transcript({"id": "d", "segments": []})
    assert not is_transcript({"utterances": [], "segments": []})
