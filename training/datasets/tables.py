"""Rows of delimited corpus files, checked, with the line each begins on."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.datasets.errors import DatasetError
from training.datasets.located import DialogueOrFault, LocatedUtterance, Place, by_dialogue

_DIGITS = re.compile(r"[0-9]{1,100}")
_DELIMITERS = {"\t": "tabs", ";": "semicolons", "|": "bars"}
_LONGEST = 60
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a CSV file and where it stands."""

    place: Place
    values: dict[str, str]

    def text(self, column: str) -> str:
        """The column's value.

        Raises:
            DatasetError: it is empty.
        """
        value = self.values[column]
        if not value.strip():
            raise self.error(f"{column} is empty")
        return value

    def number(self, column: str) -> int:
        """The column's value, a whole number from 0.

        Raises:
            DatasetError: it is something else.
        """
        value = self.values[column]
        if not _DIGITS.fullmatch(value.strip()):
            raise self.error(f"{column} is {shown(value)}, not a whole number")
        return int(value)

    def error(self, problem: str) -> DatasetError:
        return self.place.error(problem)


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Row | DatasetError]:
    """Rows of a CSV file with a header, UTF-8; a `DatasetError` for a row that is none.

    Such a row has no value for a column of `columns`, more values than there are columns, or quotes
    that do not pair.

    Raises:
        DatasetError: no such file, not UTF-8, or a column of `columns` is missing or there twice.
    """
    text = read_text(path)
    if not text.strip():
        raise DatasetError(f"{path}: is empty", path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    while True:
        place = Place(path, reader.line_num + 1)
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield place.error(str(error))
            continue
        if values is None:
            return
        if header is None:
            header = values
            _check_header(header, columns, place)
        elif values == header:
            yield place.error("the header again, as in joined files; remove this line")
        elif any(value.strip() for value in values):  # Excel writes rows of commas
            yield _row(header, values, columns, place)


def dialogues_of(
    path: Path, columns: Sequence[str], locate: Callable[[Row], tuple[str, LocatedUtterance]]
) -> Iterator[DialogueOrFault]:
    """The dialogues of a table of utterances, in the order in which they begin.

    Args:
        locate: the dialogue's id and the utterance of a row, or DatasetError for what is wrong.

    Raises:
        DatasetError: as `read_csv`.
    """

    def rows() -> Iterator[tuple[str, LocatedUtterance] | DatasetError]:
        for row in read_csv(path, columns):
            try:
                yield row if isinstance(row, DatasetError) else locate(row)
            except DatasetError as error:
                yield error

    return by_dialogue(rows())


def _check_header(header: Sequence[str], columns: Sequence[str], place: Place) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        marks = [name for mark, name in _DELIMITERS.items() if mark in "".join(header)]
        hint = f"; columns are separated by commas, not {marks[0]}" if marks else ""
        raise place.error(f"missing column {', '.join(missing)}{hint}")
    if twice := [column for column in columns if header.count(column) > 1]:
        raise place.error(f"column {', '.join(twice)} appears twice")


def _row(
    header: Sequence[str], values: Sequence[str], columns: Sequence[str], place: Place
) -> Row | DatasetError:
    by_column = dict(zip(header, values, strict=False))
    if short := [column for column in columns if column not in by_column]:
        return place.error(f"no value for {', '.join(short)}")
    if any(value.strip() for value in values[len(header) :]):
        return place.error(
            f"{len(values)} values for {len(header)} columns; a text with a comma needs quotes"
        )
    return Row(place, by_column)


def read_text(path: Path) -> str:
    """A file's text, line ends as they are, without a byte order mark.

    Raises:
        DatasetError: no such file, or not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}", path) from None
    if raw.startswith(_GZIP):
        raise DatasetError(f"{path}: is compressed with gzip; decompress it (gunzip)", path)
    encoding = json.detect_encoding(raw)
    if raw and not encoding.startswith("utf-8"):
        name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
        raise DatasetError(f"{path}: is {name}; save it as UTF-8", path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(path, error.object.count(b"\n", 0, error.start) + 1)
        raise place.error(f"not UTF-8: {error.reason}; save the file as UTF-8") from None


def read_lines(path: Path) -> list[str]:
    """A file's lines without their ends: not by `splitlines`, for a text may hold what Unicode
    calls a line break.

    Raises:
        DatasetError: as `read_text`.
    """
    lines = read_text(path).removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def shown(value: object) -> str:
    """A value as an error shows it, cut short: it may be a whole season."""
    whole = repr(value)
    return whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 3]}..."
