"""Files of dialogues, in the interchange format of the service and of training."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from service.conversation.dialogue import Dialogue, Utterance
from service.json_lines import lone_surrogate, read_json_lines, write_json_lines


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


def write_dialogues(dialogues: Iterable[Dialogue], path: Path) -> None:
    """Write dialogues in the interchange format, one a line, whole or not at all."""
    write_json_lines(map(dialogue_to_json, dialogues), path)


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
    if (place := lone_surrogate(found)) is not None:
        raise DialogueFormatError(f"{where} holds a lone surrogate at character {place}")
    return found


def _optional_text(value: dict[str, object], key: str, where: str) -> str | None:
    return None if value.get(key) is None else _text(value, key, where)
