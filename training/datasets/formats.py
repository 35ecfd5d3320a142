"""Which format a corpus is in, by what it holds."""

import json
from pathlib import Path

from training.datasets.errors import DatasetError
from training.datasets.reading import FORMATS, JSONL

_HEAD = 65_536  # bytes
_JSONL = (".jsonl", ".ndjson")


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
                raw = file.read(_HEAD)
            # A file in UTF-16 is told too, and then refused by the reader that knows why.
            head = raw.decode(json.detect_encoding(raw), errors="replace").lstrip()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}", path) from None
    if any(name.startswith("dialogues_") and name.endswith(".txt") for name in names):
        return "dailydialog"
    if path.is_dir() and any(name == "dialog" or name.startswith("Session") for name in names):
        return "iemocap"
    if path.suffix.lower() in _JSONL:
        return JSONL
    if head.startswith(("{", "[")):
        return "emorynlp" if path.suffix.lower() == ".json" and '"episodes"' in head else JSONL
    first = head.partition("\n")[0]
    for column, name in (("Scene_ID", "emorynlp"), ("Dialogue_ID", "meld")):
        if column in first:
            return name
    fields = first.split("\t")
    if len(fields) == 3 and fields[1].replace(",", "").isdecimal():
        return "goemotions"
    what = "could be of any format" if head or path.is_dir() else "is empty"
    raise DatasetError(
        f"{path}: {what}; --format names one of {', '.join((*FORMATS, JSONL))}", path
    )
