"""Files of dialogues in bodies: read within the limits of a batch."""

import re
from dataclasses import dataclass
from pathlib import Path

from service.api.limits import BROKEN_LINES, check_transcript
from service.api.problems.answers import invalid
from service.conversation.dialogue import Dialogue
from service.dialogue_files import DialogueFormatError, Reading, placed_parts
from service.settings import Limits
from service.text_lines import is_packed, lines_in

_LINE = re.compile(r"(\d+)(?:, item \d+)?: (.*)", re.DOTALL)
# Options of `instructerc score`, which messages name as remedies.
_OPTION = re.compile(r"--(text|dialogue)\b")


@dataclass(frozen=True, slots=True)
class Unread:
    """A line, row or cue that could not be read.

    Attributes:
        line: its number in the file, from 1.
    """

    line: int
    detail: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a file contains, in its order."""

    parts: tuple[Dialogue | Unread, ...]

    @property
    def dialogues(self) -> list[Dialogue]:
        return [part for part in self.parts if isinstance(part, Dialogue)]

    @property
    def unread(self) -> list[Unread]:
        return [part for part in self.parts if isinstance(part, Unread)]

    @property
    def utterance_count(self) -> int:
        return sum(len(dialogue.utterances) for dialogue in self.dialogues)


def read_transcript(
    content: bytes,
    name: str,
    suffix: str,
    reading: Reading,
    limits: Limits,
    most: int | None = None,
) -> Transcript:
    """Read a file; a megabyte takes up to a second.

    Args:
        name: the id of its dialogue, if it does not name its dialogues.
        suffix: such as ".csv": what the file is where its content does not tell.
        most: how many utterances the caller's quota allows, if it says.

    Raises:
        RequestValidationError: the file cannot be read, holds too much, has too many lines that
            cannot be read, or has no dialogue; the error says where.
    """
    if is_packed(content):
        raise invalid(detail="is packed with gzip: send it with `Content-Encoding: gzip`")
    path = Path(f"{name}{suffix}")
    parts: list[Dialogue | Unread] = []
    unread: list[Unread] = []
    try:
        lines = lines_in(content, path, DialogueFormatError)
        for place, part in placed_parts(lines, path, reading):
            if isinstance(part, Dialogue):
                parts.append(part)
                if len(parts) - len(unread) > limits.batch_dialogues:
                    raise invalid(
                        detail=f"has more than {limits.batch_dialogues} dialogues, which is the "
                        "limit"
                    )
                continue
            unread.append(Unread(int(place.partition(",")[0]), _detail(part, path)[1]))
            parts.append(unread[-1])
            if len(unread) > BROKEN_LINES:
                raise invalid(
                    detail=f"more than {BROKEN_LINES} lines cannot be read, the first of them "
                    f"{unread[0]}"
                )
    except DialogueFormatError as error:
        line, detail = _detail(error, path)
        raise invalid(detail=detail if line is None else f"line {line}: {detail}") from None
    transcript = Transcript(tuple(parts))
    if not transcript.dialogues:
        raise invalid(detail=str(unread[0]) if unread else "has no dialogue")
    check_transcript(transcript.dialogues, limits, most)
    return transcript


def _detail(error: DialogueFormatError, path: Path) -> tuple[int | None, str]:
    """The line that an error names, if any, and what is wrong there."""
    message = _OPTION.sub(r"the parameter `\1`", str(error).removeprefix(f"{path}:").strip())
    placed = _LINE.fullmatch(message)
    return (None, message) if placed is None else (int(placed[1]), placed[2])
