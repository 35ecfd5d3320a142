"""Files of dialogues in bodies."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError

from service.api.batches.transcripts import Transcript, Unread, read_transcript
from service.dialogue_files import Reading
from service.settings import Limits

SAID = {"speaker": "Ann", "text": "We won!"}


def read(
    content: str | bytes, name: str = "a.b", suffix: str = ".txt", **limits: Any
) -> Transcript:
    raw = content.encode() if isinstance(content, str) else content
    return read_transcript(raw, name, suffix, Reading(), Limits(**limits))


def refusal(content: str | bytes, **more: Any) -> str:
    with pytest.raises(RequestValidationError) as refused:
        read(content, **more)
    return str(refused.value.errors()[0]["msg"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_dialogue_has_the_name_that_is_given(encoding: str) -> None:
    """Whole: no part of it is the end of a file's name."""
    transcript = read("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Änn>Hi.\n".encode(encoding))

    (dialogue,) = transcript.dialogues
    assert (dialogue.id, dialogue.utterances[0].speaker) == ("a.b", "Änn")
    assert transcript.utterance_count == 1


def test_the_media_type_tells_where_the_content_does_not() -> None:
    """A table whose first column has the texts, and no other."""
    (dialogue,) = read("Text\nHi.\n", suffix=".csv").dialogues

    assert [each.text for each in dialogue.utterances] == ["Hi."]


def test_parts_stand_in_the_order_of_the_file() -> None:
    """Of an array, the line is that on which an item begins."""
    items = [{"id": "a", "utterances": [SAID]}, {"id": "b"}, {"id": "c", "utterances": [SAID]}]
    expected = ["a", "utterances is missing", "c"]
    for content, line in (
        ("\n".join(map(json.dumps, items)), 2),
        ("[\n" + ",\n".join(map(json.dumps, items)) + "\n]", 3),
    ):
        transcript = read(content)

        assert [
            part.detail if isinstance(part, Unread) else part.id for part in transcript.parts
        ] == expected
        assert [each.line for each in transcript.unread] == [line]


def test_an_id_that_occurs_twice_is_named() -> None:
    dialogue = json.dumps({"id": "a", "utterances": [SAID]})

    (unread,) = read(f"{dialogue}\n\n{dialogue}\n").unread

    assert str(unread) == "line 3: id 'a' is also on line 1"


def test_remedies_are_parameters_of_the_call() -> None:
    """Not options of a command."""
    assert "name it with the parameter `text`" in refusal("a,b\n1,2\n", suffix=".csv")
    table = "id,text\n1,Hi.\n1,Ho.\n"
    assert "name its column with the parameter `dialogue`" in refusal(table, suffix=".csv")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 50_000, "[{}" + ",{}" * 300_000 + "]", "a\n" * 500_000]
)
def test_a_megabyte_of_anything_is_refused(content: str) -> None:
    """Within its bounds, and with one line of words."""
    assert len(refusal(content)) < 300


def test_so_many_dialogues_are_read_and_no_more() -> None:
    lines = [json.dumps({"id": f"{n}", "utterances": []}) for n in range(20_000)]

    assert refusal("\n".join(lines), batch_dialogues=3).startswith("has more than 3 dialogues")
