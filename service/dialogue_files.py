"""Files of dialogues: JSON lines or a transcript."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.conversation.dialogue import Dialogue, Utterance
from service.dialogue_format import DialogueIn, UtteranceOfDialogue
from service.json_lines import read_each, write_json_lines
from service.transcripts import dialogue_of_transcript, is_transcript

# What is wrong with a value, by pydantic's name for it, in the words of this format.
_FAULTS = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "must not be blank",
    "string_unicode": "must not hold lone surrogates",
    "list_type": "must be a list",
    "model_type": "must be an object",
}
# Of a line; a field that is misspelt makes two.
_FAULTS_TOLD = 2


class DialogueFormatError(ValueError):
    """A file of dialogues breaks the format; the message names file, line and field."""


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Read dialogues, one JSON object a line.

    A line is `{"id": "d1", "utterances": [{"id": "d1_u1", "speaker": "Ann", "text": "...",
    "label": "joy", "description": null}]}`; an utterance's `id`, `label` and `description` may be
    left out. Empty lines are skipped. `service.json_lines` says what else a file may be, and in a
    dialogue's place may stand a transcript (`service.transcripts`).

    Raises:
        DialogueFormatError: no such file, a line is not such an object, or an id occurs twice: a
            dialogue's in the file, an utterance's in its dialogue.
    """
    for found in read_each_dialogue(path):
        if isinstance(found, DialogueFormatError):
            raise found
        yield found


def read_each_dialogue(path: Path) -> Iterator[Dialogue | DialogueFormatError]:
    """The same; in place of a dialogue that is refused comes the error, and then the others.

    Raises:
        DialogueFormatError: the file cannot be read, or not to its end.
    """
    seen: dict[str, str] = {}
    for place, value in read_each(path, DialogueFormatError):
        where = f"{path}:{place}"
        if isinstance(value, DialogueFormatError):
            yield value
            continue
        try:
            dialogue = dialogue_from_json(value, name_at(path, place))
        except DialogueFormatError as error:
            yield DialogueFormatError(f"{where}: {error}")
            continue
        if dialogue.id in seen:
            also = f"id {dialogue.id!r} is also on line {seen[dialogue.id]}"
            yield DialogueFormatError(f"{where}: {also}")
            continue
        seen[dialogue.id] = place
        yield dialogue


def name_at(path: Path, place: str) -> str:
    """What a transcript is called that has no id: after its file, and its place there."""
    name = Path(path.name.removesuffix(".gz")).stem
    return name if place == "1" else f"{name}:{place}"


def dialogue_from_json(value: object, name: str | None = None) -> Dialogue:
    """Check one parsed line of the format.

    Args:
        name: of a transcript; None: it is to be a dialogue.

    Raises:
        DialogueFormatError: a field is missing, not known or not as it must be, or two utterances
            have one id; the message names it.
    """
    if not isinstance(value, dict):
        raise DialogueFormatError("a dialogue must be an object")
    if name is not None and is_transcript(value):
        try:
            value = dialogue_of_transcript(value, name)
        except ValueError as error:
            raise DialogueFormatError(str(error)) from None
    if not value.keys() & {"id", "utterances"}:
        has = ", ".join(list(value)[:5]) or "no field"
        raise DialogueFormatError(f'is no dialogue: needs "id" and "utterances", has {has}')
    try:
        found = DialogueIn.model_validate(value)
    except ValidationError as error:
        raise DialogueFormatError(_told(error)) from None
    return Dialogue(found.id, utterances_of(found))


def utterances_of(dialogue: DialogueIn) -> tuple[Utterance, ...]:
    """The utterances of a dialogue that was checked."""
    return tuple(
        Utterance(said.speaker, said.text, said.label, said.description, id=said.id)
        for said in dialogue.utterances
    )


def dialogue_to_json(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue as a line has it; optional fields only where they are set."""
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
    """Write dialogues, one a line, whole or not at all.

    Raises:
        DialogueFormatError: one is none that could be read again; the message names it.
    """
    write_json_lines(map(_checked, dialogues), path)


def _checked(dialogue: Dialogue) -> dict[str, Any]:
    value = dialogue_to_json(dialogue)
    try:
        dialogue_from_json(value)
    except DialogueFormatError as error:
        raise DialogueFormatError(f"dialogue {dialogue.id!r}: {error}") from None
    return value


def _told(error: ValidationError) -> str:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    told = [_fault(each["loc"], each["type"], each["msg"]) for each in faults[:_FAULTS_TOLD]]
    more = len(faults) - len(told)
    return "; ".join(told) + (f" (and {more} more)" if more else "")


def _fault(where: tuple[str | int, ...], kind: str, message: str) -> str:
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    if kind == "extra_forbidden":
        known = DialogueIn if len(where) == 1 else UtteranceOfDialogue
        names = (name for name, info in known.model_fields.items() if not info.exclude)
        message = f"no such field; there are {', '.join(sorted(names))}"
        return f"{field[1:]}: {message}"
    return f"{field[1:]} {_FAULTS.get(kind, message)}".strip()
