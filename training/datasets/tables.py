"""Rows of delimited corpus files, checked, with the line each begins on."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.conversation.labels import LabelSpace, UnknownLabel
from training.datasets.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a CSV file and where it stands."""

    path: Path
    line: int
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

    def integer(self, column: str) -> int:
        try:
            return int(self.values[column])
        except ValueError:
            raise self.error(f"{column} is {self.values[column]!r}, not a whole number") from None

    def label(self, column: str, label_space: LabelSpace) -> str:
        """The column's label, by its name in the label space."""
        try:
            return label_space.label(self.values[column].strip()).name
        except UnknownLabel as error:
            raise self.error(f"{column}: {error}") from None

    def error(self, problem: str) -> DatasetError:
        return DatasetError(f"{self.path}:{self.line}: {problem}")


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV file with a header, UTF-8.

    Raises:
        DatasetError: no such file, not UTF-8, a column of `columns` is missing, or a row is short.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    line = 1
    try:
        missing = [c for c in columns if c not in (reader.fieldnames or ())]
        if missing:
            raise DatasetError(f"{path}:1: missing column {', '.join(missing)}")
        for values in reader:
            row = Row(path, line + 1, values)
            short = [c for c in columns if values[c] is None]
            if short:
                raise row.error(f"no value for {', '.join(short)}")
            yield row
            line = reader.line_num
    except csv.Error as error:
        raise DatasetError(f"{path}:{line + 1}: {error}") from None


def read_text(path: Path) -> str:
    """A file's text, line ends as they are, without a byte order mark.

    Raises:
        DatasetError: no such file, or not UTF-8.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DatasetError(f"{path}:{line}: not UTF-8: {error.reason}") from None
