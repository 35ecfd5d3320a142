"""Dialogues, utterances, and which of them a prompt may show."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.json_lines import read_json_lines

# "0" to "18": InstructERC's published rows already carry speaker indexes, 18 the highest.
_SPEAKER_INDEX = re.compile(r"\A(?:[0-9]|1[0-8])\Z")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One turn of a dialogue.

    Attributes:
        speaker: who says it; any string.
        text: what is said, as written.
        label: the emotion's name in some label space, where a person has given one.
        description: what the scene looks like, in words (DialogueLLM).
        id: what the corpus calls it, where it does; unique in its dialogue.
    """

    speaker: str
    text: str
    label: str | None = None
    description: str | None = None
    id: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Utterances in the order they were spoken."""

    id: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """An utterance as a prompt shows it: its speaker is a number.

    Attributes:
        description: what the scene looks like, where that is known.
    """

    speaker: int
    text: str
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A labelled utterance from elsewhere, shown to the model as an example."""

    id: str
    label_space: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class HistoryWindow:
    """How many lines before the target a prompt shows: from `lowest` to `highest`.

    The window's first line stays where it is while the history grows to `highest` lines, then
    moves so that `lowest` are left. Between two moves a turn's prompt begins with the whole of the
    turn before it, and a prefix cache serves it. With `lowest == highest` the window slides by one
    line a turn, as published.
    """

    lowest: int
    highest: int

    def __post_init__(self) -> None:
        if not 0 <= self.lowest <= self.highest:
            raise ValueError(f"need 0 <= lowest <= highest, got {self.lowest} and {self.highest}")

    def start(self, target: int) -> int:
        """The index of the first history line for the utterance with index `target`."""
        step = self.highest - self.lowest + 1
        beyond = max(0, target - self.highest)
        return step * -(-beyond // step)


class SpeakerIndexes:
    """Numbers the speakers of one dialogue by first appearance.

    Args:
        keep_integers: take a speaker called "0" to "18" for an index and leave it as it stands, as
            InstructERC's rows do; other names then get the lowest number not yet in use.
    """

    def __init__(self, *, keep_integers: bool = False) -> None:
        self._keep_integers = keep_integers
        self._index: dict[str, int] = {}

    def of(self, speaker: str) -> int:
        """The speaker's index; a speaker not seen before is given one."""
        known = self._index.get(speaker)
        if known is not None:
            return known
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


class DialogueFormatError(ValueError):
    """A file of dialogues breaks the interchange format; the message names file, line and field."""


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Read dialogues in the interchange format, one JSON object a line.

    A line is `{"id": "d1", "utterances": [{"id": "d1_u1", "speaker": "Ann", "text": "...",
    "label": "joy", "description": null}]}`; an utterance's `id`, `label` and `description` may be
    left out. Empty lines are skipped.

    Raises:
        DialogueFormatError: no such file, a line is not such an object, or an id occurs twice: a
            dialogue's in the file, an utterance's in its dialogue.
    """
    seen: dict[str, int] = {}
    for number, value in read_json_lines(path, DialogueFormatError):
        where = f"{path}:{number}"
        try:
            dialogue = dialogue_from_json(value)
        except DialogueFormatError as error:
            raise DialogueFormatError(f"{where}: {error}") from None
        if dialogue.id in seen:
            raise DialogueFormatError(
                f"{where}: id {dialogue.id!r} is also on line {seen[dialogue.id]}"
            )
        seen[dialogue.id] = number
        yield dialogue


def dialogue_from_json(value: object) -> Dialogue:
    """Check one parsed line of the interchange format.

    Raises:
        DialogueFormatError: a field is missing or has the wrong type, or two utterances have one
            id; the message names it.
    """
    if not isinstance(value, dict):
        raise DialogueFormatError("a dialogue must be an object")
    identifier = _text(value, "id", "id")
    utterances = value.get("utterances")
    if not isinstance(utterances, list):
        raise DialogueFormatError("utterances must be a list")
    dialogue = Dialogue(identifier, tuple(_utterance(u, n) for n, u in enumerate(utterances)))
    seen: dict[str, int] = {}
    for index, utterance in enumerate(dialogue.utterances):
        if utterance.id is not None and seen.setdefault(utterance.id, index) != index:
            raise DialogueFormatError(
                f"utterances[{index}].id {utterance.id!r} is also that of "
                f"utterances[{seen[utterance.id]}]"
            )
    return dialogue


def dialogue_to_json(dialogue: Dialogue) -> dict[str, Any]:
    """The interchange form of a dialogue; optional fields only where they are set."""
    return {
        "id": dialogue.id,
        "utterances": [
            ({"id": u.id} if u.id is not None else {})
            | {"speaker": u.speaker, "text": u.text}
            | ({"label": u.label} if u.label is not None else {})
            | ({"description": u.description} if u.description is not None else {})
            for u in dialogue.utterances
        ],
    }


def write_dialogues(dialogues: Sequence[Dialogue], path: Path) -> None:
    """Write dialogues in the interchange format, one a line, UTF-8."""
    with path.open("w", encoding="utf-8") as file:
        for dialogue in dialogues:
            file.write(json.dumps(dialogue_to_json(dialogue), ensure_ascii=False) + "\n")


def _utterance(value: object, index: int) -> Utterance:
    where = f"utterances[{index}]"
    if not isinstance(value, dict):
        raise DialogueFormatError(f"{where} must be an object")
    return Utterance(
        speaker=_text(value, "speaker", f"{where}.speaker"),
        text=_text(value, "text", f"{where}.text"),
        label=_optional_text(value, "label", f"{where}.label"),
        description=_optional_text(value, "description", f"{where}.description"),
        id=_optional_text(value, "id", f"{where}.id"),
    )


def _text(value: dict[str, object], key: str, where: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        problem = "is missing" if key not in value else f"must be a string, not {found!r}"
        raise DialogueFormatError(f"{where} {problem}")
    try:
        found.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DialogueFormatError(
            f"{where} holds a lone surrogate at character {error.start}"
        ) from None
    return found


def _optional_text(value: dict[str, object], key: str, where: str) -> str | None:
    return None if value.get(key) is None else _text(value, key, where)
