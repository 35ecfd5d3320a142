"""Detects the format of a corpus from its content."""

import gzip
import json
import zlib
from pathlib import Path

from training.datasets.errors import DatasetError
from training.datasets.reading import FORMATS, JSONL

_HEAD = 65_536  # bytes
_GZIP = b"\x1f\x8b"
_JSONL = (".jsonl", ".ndjson")
# What a line names that may be a table's first, and whose reader says what is missing.
_COLUMNS = (
    ("scene_id", "emorynlp"),
    ("dialogue_id", "meld"),
    ("utterance", "meld"),
)


def format_of(path: Path) -> str:
    """The key of `FORMATS`, or "jsonl", that a file or a folder seems to be of.

    It need not be sound, nor even be read by that format: what is wrong is then said in its terms.

    Raises:
        DatasetError: it cannot be read, or could be anything.
    """
    try:
        if path.is_dir():
            names = [each.name for each in path.iterdir()]
            head = ""
        else:
            names = [path.name]
            with path.open("rb") as file:
                packed = file.peek(2)[:2] == _GZIP
                raw = (gzip.GzipFile(fileobj=file) if packed else file).read(_HEAD)
            # A file in UTF-16 is told too, and then refused by the reader that knows why.
            head = raw.decode(json.detect_encoding(raw), errors="replace").lstrip()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path}: cannot be decompressed with gzip: {error}", path) from None
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}", path) from None
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if any(name.startswith("dialogues_") and name.endswith(".txt") for name in names):
        return "dailydialog"
    if path.is_dir() and any(name == "dialog" or name.startswith("Session") for name in names):
        return "iemocap"
    if suffix in _JSONL:
        return JSONL
    if head.startswith(("{", "[")):
        return "emorynlp" if suffix == ".json" and '"episodes"' in head else JSONL
    first = head.partition("\n")[0]
    for column, name in _COLUMNS:
        if column in first.casefold():
            return name
    fields = first.split("\t")
    if len(fields) == 3 and fields[1].replace(",", "").isdecimal():
        return "goemotions"
    if not head and not path.is_dir():
        raise DatasetError(f"{path}: is empty", path)
    known = ", ".join((*FORMATS, JSONL))
    raise DatasetError(
        f"{path}: its format cannot be detected; name it with --format: {known}", path
    )
