"""Dialogues and their utterances: which text is valid, and which of them a prompt may show.

`HistoryWindow` is the range of utterances before the target that a prompt shows; it moves in steps.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# "0" to "18": InstructERC's published rows already carry speaker indexes, 18 the highest.
_SPEAKER_INDEX = re.compile(r"\A(?:[0-9]|1[0-8])\Z")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One turn of a dialogue.

    Attributes:
        speaker: any string.
        text: the spoken text, as written.
        label: the emotion's name in some label space; None if nobody has labelled it.
        description: the scene in words (DialogueLLM).
        id: the corpus's id, if it has one; unique in its dialogue.
        start, end: when it is spoken, in seconds from the dialogue's beginning, if known.
        role: the speaker's part in the dialogue, such as "agent", if known.
    """

    speaker: str
    text: str
    label: str | None = None
    description: str | None = None
    id: str | None = field(default=None, kw_only=True)
    start: float | None = field(default=None, kw_only=True)
    end: float | None = field(default=None, kw_only=True)
    role: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Utterances in the order they were spoken."""

    id: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """An utterance as a prompt shows it: its speaker is a number.

    Attributes:
        description: the scene in words, if known.
    """

    speaker: int
    text: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A labelled utterance from another dialogue, shown to the model as an example."""

    id: str
    label_space: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class HistoryWindow:
    """How many lines before the target a prompt shows: from `lowest` to `highest`.

    The window's first line stays fixed while the history grows to `highest` lines, then moves so
    that `lowest` remain. Between two moves a turn's lines begin with all lines of the previous
    turn, so a prefix cache serves them. With `lowest == highest` the window slides by one line a
    turn, as published. If the lines have more tokens than a prompt may have, `prompts.tokens`
    shows fewer.
    """

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        if not 0 <= self.lowest <= self.highest:
            raise ValueError(f"need 0 <= lowest <= highest, got {self.lowest} and {self.highest}")

    def start(self, target: int) -> int:
        """The index of the first history line for the utterance with index `target`."""
        step = self.highest - self.lowest + 1
        excess = max(0, target - self.highest)
        return step * -(-excess // step)


class SpeakerIndexes:
    """Numbers the speakers of one dialogue by first appearance.

    Args:
        keep_integers: treat a speaker called "0" to "18" as that index, as InstructERC's rows do;
            other names then get the lowest number not yet in use.
    """

    def __init__(self, *, keep_integers: bool = False) -> None:
        self._keep_integers = keep_integers
        self._index: dict[str, int] = {}

    def of(self, speaker: str) -> int:
        """The speaker's index; a new speaker is assigned one."""
        index = self._index.get(speaker)
        if index is not None:
            return index
        if self._keep_integers:
            if _SPEAKER_INDEX.match(speaker):
                index = int(speaker)
            else:
                taken = set(self._index.values())
                index = next(n for n in range(len(taken) + 1) if n not in taken)
        else:
            index = len(self._index)
        self._index[speaker] = index
        return index


def lines_of(utterances: Iterable[Utterance], *, keep_integers: bool = False) -> list[Line]:
    """The utterances of one dialogue, from its beginning, as prompt lines."""
    speakers = SpeakerIndexes(keep_integers=keep_integers)
    return [Line(speakers.of(u.speaker), u.text, u.description) for u in utterances]


# In the syntax that Python's and ECMA's regular expressions share. Tab, newline and carriage return
# are text. C1 is allowed: it is common in text that was decoded with the wrong encoding.
_UNREADABLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_BREAKING = r"\n\r\x85\u2028\u2029"
# White space as Python's `str.strip` defines it.
_BLANK = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

_CONTROL = re.compile(f"[{_UNREADABLE}]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # not a character: no encoding represents it
_LINE_BREAK = re.compile(f"[{_BREAKING}]")

LATEST = 10_000_000_000
"""The latest time of an utterance, in seconds: beyond any recording and any date."""
ROLE_CHARACTERS = 100
"""The most characters of a role."""

TEXT_PATTERN = f"^[^{_UNREADABLE}]*[^{_UNREADABLE}{_BLANK}][^{_UNREADABLE}]*$"
"""What `fault_of_text` accepts, in JSON Schema's syntax (ECMA-262)."""
NAME_PATTERN = f"^[^{_UNREADABLE}{_BREAKING}]*[^{_UNREADABLE}{_BLANK}][^{_UNREADABLE}{_BREAKING}]*$"
"""What `fault_of_name` accepts."""


def fault_of_text(value: str) -> str | None:
    """Why a text is not valid as an utterance; None if it is."""
    if not value.strip():
        return "must not be blank"
    if _CONTROL.search(value):
        return "must not contain control characters"
    if _SURROGATE.search(value):
        return "must not contain lone surrogates"
    return None


def fault_of_name(value: str) -> str | None:
    """Why a text is not valid as a name, such as a speaker's; None if it is."""
    if (fault := fault_of_text(value)) is not None:
        return fault
    return "must be on one line" if _LINE_BREAK.search(value) else None
