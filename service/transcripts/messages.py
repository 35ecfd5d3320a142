"""Lists of chat messages as OpenAI's APIs and fine-tuning files have them."""

from collections.abc import Iterator

from service.transcripts.documents import Object, items, optional_text_at, text_at
from service.transcripts.segments import Segment, TranscriptError, checked

# Nobody says what these contain: instructions, and what programs return.
_UNSPOKEN = frozenset({"system", "developer", "tool", "function"})
# The types of a content's parts that are text, of Chat Completions and of Responses.
_TEXTS = frozenset({"text", "input_text", "output_text"})


def is_message(value: object) -> bool:
    """Whether a value is a message rather than a dialogue."""
    return isinstance(value, dict) and "role" in value and "utterances" not in value


def messages(value: Object) -> Iterator[Segment]:
    """`{"messages": [{"role": "user", "content": "..."}]}`; the speaker is the `name` or the role.

    Messages of the roles system, developer, tool and function, messages without text and parts
    other than text are ignored.

    Raises:
        TranscriptError: a field is invalid; the message names it.
    """
    for where, row in items(value, "messages"):
        role = text_at(row, "role", where)
        text = _text(row, where)
        if role not in _UNSPOKEN and text.strip():
            speaker = optional_text_at(row, "name", where) or role
            yield checked(Segment(speaker, text, role=role), where)


def _text(row: Object, where: str) -> str:
    content = row.get("content")
    if content is None:
        return ""  # such as a call of a tool
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise TranscriptError(f"{where}content must be a string or a list of parts")
    parts = items(row, "content", where)
    return " ".join(
        text_at(part, "text", at)
        for at, part in parts
        if optional_text_at(part, "type", at) in _TEXTS
    )
