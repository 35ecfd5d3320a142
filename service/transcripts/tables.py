"""Tables: CSV and its variants with semicolons, tabs or bars, one utterance a row."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from service.conversation.dialogue import fault_of_name
from service.transcripts.segments import Segment, TranscriptError, checked, seconds_between

_DELIMITERS = ",;\t|"
_MOST_COLUMNS = 1_000

# Names of columns, without case, spaces and punctuation; the first that a table has is read.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "utterance", "content", "message", "transcript", "transcription", "body"),
    "speaker": ("speaker", "speakername", "speakerid", "name", "participant", "author", "sender"),
    "dialogue": (
        *("dialogue", "dialogueid", "dialog", "dialogid", "conversation", "conversationid"),
        *("call", "callid", "session", "sessionid", "thread", "threadid"),
    ),
    "start": ("start", "starttime", "startseconds", "begin", "begintime", "time", "timestamp"),
    "end": ("end", "endtime", "endseconds", "stop", "stoptime"),
    "role": ("role", "speakerrole", "participantrole"),
    "id": ("id", "utteranceid", "messageid"),
}
# A table of Whisper's and WhisperX's `WriteTSV`, whose times are in milliseconds.
_WHISPER = ["start", "end", "text"]

_CLOCK = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{2}(?:[.,]\d{1,9})?)")
_SECONDS = re.compile(r"\d{1,16}(?:[.,]\d{1,9})?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*")


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns to read, where they are not found by their usual names.

    Attributes:
        time: the column of the time when an utterance begins.
    """

    speaker: str | None = None
    text: str | None = None
    dialogue: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A segment of a table.

    Attributes:
        dialogue: the name of its dialogue; None if the table has no such column.
        line: the number of the line where the row begins.
    """

    dialogue: str | None
    segment: Segment
    line: int


@dataclass(slots=True)
class _Table:
    """How the rows of a table are read.

    Attributes:
        header: the columns' names.
        places: the index of each column that is read, by what it has.
        per_second: 1000 if times are in milliseconds.
        dialogue, date: the dialogue of the row before, and the date with which it began.
    """

    header: list[str]
    places: Mapping[str, int]
    per_second: int
    dialogue: str | None = None
    date: str | None = None


def has_table(first: str) -> bool:
    """Whether a file with this first line is a table with a column of texts."""
    try:
        return "text" in _places(_split(first, _delimiter(first)), Columns())
    except TranscriptError:
        return False


def table(lines: Iterable[str], columns: Columns) -> Iterator[Row | TranscriptError]:
    """The rows of a table, with the error of an invalid row in its place.

    Blank rows, and rows without text, are skipped. A time is in seconds (`12.5`), on the clock
    (`1:02:03.5`, `02:03`) or a date (`2026-01-02T10:00:00Z`); dates become seconds from the first
    row of the dialogue on.

    Raises:
        TranscriptError: the header has no column of texts, or lacks one of `columns`.
    """
    source = iter(lines)
    first = ""
    before = 0
    while not first.strip() and (line := next(source, None)) is not None:
        first, before = line, before + 1
    if not first.strip():
        raise TranscriptError("a table begins with the names of its columns", max(1, before))
    delimiter = _delimiter(first)
    try:
        header = _split(first, delimiter)
        places = _places(header, columns)
    except TranscriptError as error:
        raise TranscriptError(str(error), before) from None
    if "text" not in places:
        raise TranscriptError(
            f"no column of texts among {', '.join(header[:20])}; name it with --text", before
        )
    whisper = delimiter == "\t" and header == _WHISPER
    state = _Table(header, places, 1000 if whisper else 1)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        number = before + reader.line_num + 1
        try:
            cells = next(reader)
            if row := _row(cells, state, number):
                yield row
        except StopIteration:
            return
        except csv.Error as error:
            yield TranscriptError(f"not CSV: {error}", number)
        except TranscriptError as error:
            yield error


def _delimiter(first: str) -> str:
    """The delimiter that makes most columns of a header."""
    return max(_DELIMITERS, key=first.count)


def _split(first: str, delimiter: str) -> list[str]:
    try:
        header = next(csv.reader([first], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise TranscriptError(f"not a header: {error}") from None
    if len(header) > _MOST_COLUMNS:
        raise TranscriptError(f"more than {_MOST_COLUMNS:,} columns")
    return [name.strip() for name in header]


def _places(header: Sequence[str], columns: Columns) -> dict[str, int]:
    """The index of each column to read, by what it has.

    Raises:
        TranscriptError: one of `columns` is not in the header, or there twice.
    """
    places = {}
    plain = [re.sub(r"[\W_]+", "", name).casefold() for name in header]
    for content, names in _NAMES.items():
        for name in names:
            if name in plain:
                places[content] = plain.index(name)
                break
    asked = {
        "speaker": columns.speaker,
        "text": columns.text,
        "dialogue": columns.dialogue,
        "start": columns.time,
    }
    for content, given in asked.items():
        if given is not None:
            if header.count(given) != 1:
                count = "no column" if given not in header else "two columns"
                raise TranscriptError(f"{count} {given!r}; there are {', '.join(header[:20])}")
            places[content] = header.index(given)
    taken = {places[content] for content, given in asked.items() if given is not None}
    return {
        content: place
        for content, place in places.items()
        if place not in taken or asked.get(content) is not None
    }


def _row(cells: list[str], state: _Table, line: int) -> Row | None:
    if not any(cell.strip() for cell in cells):
        return None
    if any(_is_not_utf8(cell) for cell in cells):
        raise TranscriptError("not UTF-8; save the table as UTF-8", line)
    if len(cells) != len(state.header):
        raise TranscriptError(
            f"has {len(cells)} columns, and the header {len(state.header)}; "
            "quote a text that contains the delimiter",
            line,
        )
    values = {content: cells[at].strip() or None for content, at in state.places.items()}
    dialogue, text = values.get("dialogue"), values["text"]
    if "dialogue" in state.places:
        if dialogue is None:
            raise TranscriptError(
                f"column {state.header[state.places['dialogue']]!r} is empty; "
                "it names the row's dialogue",
                line,
            )
        if (fault := fault_of_name(dialogue)) is not None:
            raise TranscriptError(f"the dialogue's name {fault}", line)
        if dialogue != state.dialogue:
            state.dialogue, state.date = dialogue, None
    start = _time(values.get("start"), "start", state, line)
    if text is None:
        return None
    segment = Segment(
        values.get("speaker"),
        text,
        start,
        _time(values.get("end"), "end", state, line),
        values.get("role"),
        values.get("id"),
    )
    return Row(dialogue, checked(segment, line=line), line)


def _time(value: str | None, content: str, state: _Table, line: int) -> float | None:
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return float(value.replace(",", ".")) / state.per_second
    if clock := _CLOCK.fullmatch(value):
        hours, minutes, seconds = clock.groups()
        whole = int(hours or 0) * 3600 + int(minutes) * 60
        return round(whole + float(seconds.replace(",", ".")), 9)
    if _DATE.fullmatch(value):
        with suppress(ValueError):
            seconds = seconds_between(state.date or value, value)
            state.date = state.date or value
            return seconds
    column = state.header[state.places[content]]
    raise TranscriptError(
        f"column {column!r}: {value[:40]!r} is not a time; write seconds, such as 12.5, "
        "1:02:03.5 or a date, such as 2026-01-02T10:00:00Z",
        line,
    )


def _is_not_utf8(cell: str) -> bool:
    return not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell)
