"""Files of dialogues: JSON lines or a transcript."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.conversation.dialogue import LATEST, Dialogue, Utterance
from service.dialogue_format import DialogueIn, UtteranceOfDialogue
from service.json_lines import read_each, write_json_lines
from service.transcripts import dialogue_of_transcript, is_transcript

# This format's descriptions of errors, by pydantic's error type.
_FAULTS = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "must not be blank",
    "string_unicode": "must not contain lone surrogates",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "greater_than_equal": "must not be negative",
    "less_than_equal": f"must be at most {LATEST}",
}
# An utterance's, in the order in which they are written.
_FIELDS = ("id", "speaker", "role", "start", "end", "text", "label", "description")
# The most errors reported of a line; a misspelt field causes two.
_REPORTED_FAULTS = 2


class DialogueFormatError(ValueError):
    """A file of dialogues is malformed; the message names file, line and field."""


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Read dialogues, one JSON object a line.

    A line is `{"id": "d1", "utterances": [{"id": "d1_u1", "speaker": "Ann", "text": "...",
    "label": "joy", "description": null}]}`; an utterance's `id`, `label` and `description` are
    optional. Empty lines are skipped. `service.json_lines` lists the other encodings of a file, and
    a line may also be a transcript (`service.transcripts`).

    Raises:
        DialogueFormatError: there is no such file, a line is not such an object, or an id occurs
            twice: a dialogue's in the file, an utterance's in its dialogue.
    """
    for dialogue in read_each_dialogue(path):
        if isinstance(dialogue, DialogueFormatError):
            raise dialogue
        yield dialogue


def read_each_dialogue(path: Path) -> Iterator[Dialogue | DialogueFormatError]:
    """As `read_dialogues`, but yield the error of an invalid dialogue in its place, and go on.

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
            repeated = f"id {dialogue.id!r} is also on line {seen[dialogue.id]}"
            yield DialogueFormatError(f"{where}: {repeated}")
            continue
        seen[dialogue.id] = place
        yield dialogue


def name_at(path: Path, place: str) -> str:
    """The id of a transcript: the name of its file and, unless it is the first, its place there."""
    name = Path(path.name.removesuffix(".gz")).stem
    return name if place == "1" else f"{name}:{place}"


def dialogue_from_json(value: object, name: str | None = None) -> Dialogue:
    """Check one parsed line of the format.

    Args:
        name: the id for a transcript; None: accept no transcript.

    Raises:
        DialogueFormatError: a field is missing, unknown or invalid, or two utterances have the same
            id; the message names it.
    """
    if not isinstance(value, dict):
        raise DialogueFormatError("a dialogue must be an object")
    if name is not None and is_transcript(value):
        try:
            value = dialogue_of_transcript(value, name)
        except ValueError as error:
            raise DialogueFormatError(str(error)) from None
    if not value.keys() & {"id", "utterances"}:
        fields = ", ".join(list(value)[:5]) or "no field"
        raise DialogueFormatError(f'is not a dialogue: needs "id" and "utterances", has {fields}')
    try:
        parsed = DialogueIn.model_validate(value)
    except ValidationError as error:
        raise DialogueFormatError(_summary(error)) from None
    return Dialogue(parsed.id, utterances_of(parsed))


def utterances_of(dialogue: DialogueIn) -> tuple[Utterance, ...]:
    """The utterances of a validated dialogue."""
    return tuple(
        Utterance(
            utterance.speaker,
            utterance.text,
            utterance.label,
            utterance.description,
            id=utterance.id,
            start=utterance.start,
            end=utterance.end,
            role=utterance.role,
        )
        for utterance in dialogue.utterances
    )


def dialogue_to_json(dialogue: Dialogue) -> dict[str, Any]:
    """A dialogue's JSON object; optional fields only if they are set."""
    return {
        "id": dialogue.id,
        "utterances": [
            {
                name: value
                for name in _FIELDS
                if (value := getattr(utterance, name)) is not None
            }
            for utterance in dialogue.utterances
        ],
    }


def write_dialogues(dialogues: Iterable[Dialogue], path: Path) -> None:
    """Write dialogues, one a line, atomically.

    Raises:
        DialogueFormatError: a dialogue could not be read again; the message names it.
    """
    write_json_lines(map(_checked, dialogues), path)


def _checked(dialogue: Dialogue) -> dict[str, Any]:
    value = dialogue_to_json(dialogue)
    try:
        dialogue_from_json(value)
    except DialogueFormatError as error:
        raise DialogueFormatError(f"dialogue {dialogue.id!r}: {error}") from None
    return value


def _summary(error: ValidationError) -> str:
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    descriptions = [
        _fault(fault["loc"], fault["type"], fault["msg"]) for fault in faults[:_REPORTED_FAULTS]
    ]
    more = len(faults) - len(descriptions)
    return "; ".join(descriptions) + (f" (and {more} more)" if more else "")


def _fault(where: tuple[str | int, ...], kind: str, message: str) -> str:
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    if kind == "extra_forbidden":
        known = DialogueIn if len(where) == 1 else UtteranceOfDialogue
        names = (name for name, info in known.model_fields.items() if not info.exclude)
        message = f"unknown field; known are {', '.join(sorted(names))}"
        return f"{field[1:]}: {message}"
    return f"{field[1:]} {_FAULTS.get(kind, message)}".strip()
