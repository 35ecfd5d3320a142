"""Files of dialogues: JSON lines, and transcripts in other programs' formats."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.conversation.dialogue import LATEST, Dialogue, Utterance
from service.dialogue_format import DialogueIn, UtteranceOfDialogue
from service.json_lines import values_of, write_json_lines
from service.text_lines import lines_of
from service.transcripts.formats import DOCUMENTS, Format, format_of_document, format_of_text
from service.transcripts.messages import is_message
from service.transcripts.segments import (
    MOST_SEGMENTS,
    Joining,
    Segment,
    TranscriptError,
    dialogue_of,
)
from service.transcripts.subtitles import Cue, srt, webvtt
from service.transcripts.tables import Columns, Row, table

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
_HEAD_LINES = 1_000  # the most in which a format is looked for
# The most errors reported of a line; a misspelt field causes two.
_REPORTED_FAULTS = 2


class DialogueFormatError(ValueError):
    """A file of dialogues is malformed; the message names file, line and field."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file of dialogues or transcripts is read.

    Attributes:
        format: None: the content tells, unless columns are named.
        columns: the columns of a table.
        joining: which segments of a transcript become one utterance.
    """

    format: Format | None = None
    columns: Columns = Columns()
    joining: Joining = Joining()


_DEFAULT = Reading()
Placed = tuple[str, "Dialogue | DialogueFormatError"]
"""A part of a file and its place: `3` for line 3, `1, item 3` in an array on line 1."""


def read_dialogues(path: Path) -> Iterator[Dialogue]:
    """Read dialogues, one JSON object a line, or transcripts.

    A line is `{"id": "d1", "utterances": [{"id": "d1_u1", "speaker": "Ann", "text": "...",
    "label": "joy", "description": null}]}`; an utterance's fields other than `speaker` and `text`
    are optional. Empty lines are skipped. `service.json_lines` lists the other encodings of a file;
    a line may also be a transcript, and a file a table or subtitles (`service.transcripts`).

    Raises:
        DialogueFormatError: there is no such file, a line is not such an object, or an id occurs
            twice: a dialogue's in the file, an utterance's in its dialogue.
    """
    for dialogue in read_each_dialogue(path):
        if isinstance(dialogue, DialogueFormatError):
            raise dialogue
        yield dialogue


def read_each_dialogue(
    path: Path, reading: Reading = _DEFAULT
) -> Iterator[Dialogue | DialogueFormatError]:
    """As `read_dialogues`, but yield the error of an invalid part in its place, and go on.

    A part is a dialogue on a line, a row of a table, or a cue of subtitles; a dialogue follows the
    errors of its rows or cues.

    Raises:
        DialogueFormatError: the file cannot be read, or not to its end.
    """
    for _, dialogue in placed_parts(lines_of(path, DialogueFormatError), path, reading):
        yield dialogue


def placed_parts(lines: Iterator[bytes], path: Path, reading: Reading) -> Iterator[Placed]:
    """As `read_each_dialogue`, of lines that were read from `path`, each part with its place."""
    return with_ids_once(_results(lines, path, reading), path)


def with_ids_once(parts: Iterable[Placed], path: Path) -> Iterator[Placed]:
    """The parts of a file, with an error in place of a dialogue whose id is another's."""
    seen: dict[str, str] = {}
    for place, dialogue in parts:
        if isinstance(dialogue, Dialogue):
            if dialogue.id in seen:
                repeated = f"id {dialogue.id!r} is also on line {seen[dialogue.id]}"
                yield place, DialogueFormatError(f"{path}:{place}: {repeated}")
                continue
            seen[dialogue.id] = place
        yield place, dialogue


def _results(lines: Iterator[bytes], path: Path, reading: Reading) -> Iterator[Placed]:
    head = _head(lines)
    lines = chain(head, lines)
    shown = [line for line in map(_decoded, head) if line.strip()]
    of_table = Format.CSV if reading.columns != Columns() else None
    match reading.format or of_table or format_of_text(shown, _suffix(path)):
        case Format.CSV:
            return _of_table(map(_decoded, lines), path, reading)
        case Format.WEBVTT:
            return _of_subtitles(webvtt(map(_decoded, lines)), path, reading)
        case Format.SRT:
            return _of_subtitles(srt(map(_decoded, lines)), path, reading)
    return _of_values(lines, path, reading)


def _head(lines: Iterator[bytes]) -> list[bytes]:
    """The first lines, up to the second that is not blank."""
    head: list[bytes] = []
    filled = 0
    for line in islice(lines, _HEAD_LINES):
        head.append(line)
        filled += bool(line.strip())
        if filled == 2:
            break
    return head


def _decoded(line: bytes) -> str:
    # What is not UTF-8 becomes lone surrogates, which no text may contain.
    return line.decode("utf-8", "surrogateescape")


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _of_values(lines: Iterable[bytes], path: Path, reading: Reading) -> Iterator[Placed]:
    for place, value in _gathered(values_of(lines, path, DialogueFormatError)):
        if isinstance(value, DialogueFormatError):
            yield place, value
            continue
        try:
            yield place, dialogue_from_json(value, name_at(path, place), reading)
        except DialogueFormatError as error:
            yield place, DialogueFormatError(f"{path}:{place}: {error}")


def _gathered(values: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The values, with messages that are items of one array as a list."""
    messages: list[Any] = []
    at, first = "", True
    for place, value in values:
        line, _, item = place.partition(", item ")
        is_item = bool(item) and is_message(value)
        if messages and (item == "1" or not is_item):
            yield at, messages
            messages = []
        if not is_item:
            yield place, value
        elif messages:
            messages.append(value)
        else:
            # The first value of a file is named after it, on whatever line its first item is.
            at, messages = "1" if first else line, [value]
        first = False
    if messages:
        yield at, messages


def _of_subtitles(cues: Iterable[Cue], path: Path, reading: Reading) -> Iterator[Placed]:
    segments: list[Segment] = []
    broken = False
    try:
        for cue in cues:
            if isinstance(cue, TranscriptError):
                broken = True
                yield str(cue.line), _at_line(path, cue)
            elif len(segments) == MOST_SEGMENTS:
                raise TranscriptError(f"more than {MOST_SEGMENTS:,} cues; split the file", 1)
            else:
                segments.append(cue)
    except TranscriptError as error:
        raise _at_line(path, error) from None
    if segments or not broken:
        yield "1", _dialogue(segments, path, "1", name_at(path, "1"), reading)


def _of_table(lines: Iterable[str], path: Path, reading: Reading) -> Iterator[Placed]:
    segments: list[Segment] = []
    first: Row | None = None
    try:
        for row in table(lines, reading.columns):
            if isinstance(row, TranscriptError):
                yield str(row.line), _at_line(path, row)
                continue
            if first is not None and row.dialogue != first.dialogue:
                yield _of_rows(segments, path, first, reading)
                first = None
            if first is None:
                first, segments = row, []
            if len(segments) <= MOST_SEGMENTS:  # one more, by which too many are told
                segments.append(row.segment)
    except TranscriptError as error:
        raise _at_line(path, error) from None
    if first is not None:
        yield _of_rows(segments, path, first, reading)


def _of_rows(segments: list[Segment], path: Path, first: Row, reading: Reading) -> Placed:
    place, name = str(first.line), first.dialogue or name_at(path, "1")
    if len(segments) > MOST_SEGMENTS:
        error = f"a dialogue of more than {MOST_SEGMENTS:,} rows; name the column that tells "
        return place, DialogueFormatError(f"{path}:{place}: {error}dialogues apart with --dialogue")
    return place, _dialogue(segments, path, place, name, reading)


def _dialogue(
    segments: Iterable[Segment], path: Path, place: str, name: str, reading: Reading
) -> Dialogue | DialogueFormatError:
    try:
        return dialogue_of(segments, name, reading.joining)
    except TranscriptError as error:
        return DialogueFormatError(f"{path}:{place}: {error}")


def _at_line(path: Path, error: TranscriptError) -> DialogueFormatError:
    return DialogueFormatError(f"{path}:{error.line}: {error}")


def name_at(path: Path, place: str) -> str:
    """The id of a transcript: the name of its file and, unless it is the first, its place there."""
    name = Path(path.name.removesuffix(".gz")).stem
    return name if place == "1" else f"{name}:{place}"


def dialogue_from_json(
    value: object, name: str | None = None, reading: Reading = _DEFAULT
) -> Dialogue:
    """Check one parsed line of the format.

    Args:
        name: the id for a transcript; None: accept no transcript.

    Raises:
        DialogueFormatError: a field is missing, unknown or invalid, or two utterances have the same
            id; the message names it.
    """
    if name is not None and (dialogue := _of_transcript(value, name, reading)) is not None:
        return dialogue
    if not isinstance(value, dict):
        raise DialogueFormatError("a dialogue must be an object")
    if not value.keys() & {"id", "utterances"}:
        fields = ", ".join(list(value)[:5]) or "no field"
        raise DialogueFormatError(f'is not a dialogue: needs "id" and "utterances", has {fields}')
    try:
        parsed = DialogueIn.model_validate(value)
    except ValidationError as error:
        raise DialogueFormatError(_summary(error)) from None
    return Dialogue(parsed.id, utterances_of(parsed))


def _of_transcript(value: object, name: str, reading: Reading) -> Dialogue | None:
    """The dialogue of a transcript or of a list of messages; None if the value is neither."""
    bare = isinstance(value, list) and bool(value) and all(map(is_message, value))
    document = {"messages": value} if bare else value
    if not isinstance(document, dict):
        return None
    kind = reading.format or format_of_document(document)
    if kind is None or kind not in DOCUMENTS:
        return None
    try:
        return dialogue_of(DOCUMENTS[kind](document), name, reading.joining)
    except TranscriptError as error:
        raise DialogueFormatError(str(error).removeprefix("messages" * bare)) from None


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
            {name: value for name in _FIELDS if (value := getattr(utterance, name)) is not None}
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
