"""Chat messages are read as what people and assistants say to each other."""

import pytest

from service.conversation.dialogue import Dialogue
from service.transcripts.messages import messages
from service.transcripts.segments import TranscriptError
from tests.transcripts.reading import parts, spoken, utterances

SPOKEN = (
    spoken("user", "My roses died.", role="user"),
    spoken("assistant", "I am sorry, there was frost.", role="assistant"),
    spoken("Jo", "Oh. Thank you!", role="user"),
)


@pytest.mark.parametrize("name", ["chat", "bare-list"])
def test_instructions_and_tools_are_nothing_that_was_said(name: str) -> None:
    """In an object with other fields, and in an array of messages."""
    assert utterances(f"messages/{name}.json") == SPOKEN


def test_a_line_of_a_fine_tuning_file_is_a_dialogue() -> None:
    first, second = parts("messages/fine-tuning.jsonl")

    assert first == Dialogue(
        "fine-tuning",
        (
            spoken("user", "We won!", role="user"),
            spoken("assistant", "Wonderful!", role="assistant"),
        ),
    )
    assert isinstance(second, Dialogue)
    assert second.id == "fine-tuning:2"


def test_of_parts_the_texts_are_read() -> None:
    assert utterances("messages/parts.json") == (
        spoken("user", "Look at this. Is it dead?", role="user"),
        spoken("assistant", "Not at all!", role="assistant"),
    )


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ({"content": "x"}, "messages[0].role is missing"),
        ({"role": "user", "content": 1}, "messages[0].content must be a string or a list of parts"),
        ({"role": "user", "content": ["x"]}, "messages[0].content[0] must be an object"),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "messages[0].content[0].text is missing",
        ),
        (
            {"role": "user", "content": [{"type": ["text"], "text": "x"}]},
            "messages[0].content[0].type must be a string",
        ),
        ({"role": "user\n", "content": "x"}, "messages[0].speaker must be on one line"),
        ({"role": "u" * 101, "content": "x"}, "messages[0].role must have at most 100 characters"),
    ],
)
def test_invalid_message_is_named_by_its_path(message: dict[str, object], problem: str) -> None:
    with pytest.raises(TranscriptError) as refused:
        list(messages({"messages": [message]}))
    assert str(refused.value) == problem
