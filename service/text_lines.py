"""The lines of a text file, unpacked and in UTF-8, without holding the file in memory.

The file may be packed with gzip, and in UTF-16 or UTF-32.
"""

import gzip
import io
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

Refusal = TypeVar("Refusal", bound=ValueError)

# The most of a file in memory: one line, or the whole of a JSON document.
MOST_BYTES = 67_108_864
MOST = "64 MiB"

_GZIP = b"\x1f\x8b"


def lines_of(path: Path, refusal: type[Refusal]) -> Iterator[bytes]:
    """The lines of a file with their ends, without byte order marks.

    Args:
        refusal: the error type to raise; the message names the file and, if it can, the line.

    Raises:
        refusal: the file cannot be read, or not to its end, or a line is too long.
    """
    try:
        with path.open("rb") as file:
            yield from lines_from(file, path, refusal)
    except OSError as error:
        raise refusal(f"{path}: {error.strerror}") from None


def lines_from(file: io.BufferedReader, name: Path, refusal: type[Refusal]) -> Iterator[bytes]:
    """As `lines_of`, of a file that is open.

    Args:
        name: the file's, for messages.

    Raises:
        OSError: the file system fails.
    """
    try:
        yield from _lines(file, name, refusal)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise refusal(f"{name}: cannot be decompressed with gzip: {error}") from None
    except UnicodeDecodeError as error:
        raise refusal(f"{name}: not {error.encoding.upper()}: {error.reason}") from None


def lines_in(content: bytes, name: Path, refusal: type[Refusal]) -> Iterator[bytes]:
    """As `lines_of`, of a file that is in memory.

    Args:
        name: the file's, for messages.
    """
    try:
        yield from _lines(io.BufferedReader(io.BytesIO(content)), name, refusal)
    except UnicodeDecodeError as error:
        raise refusal(f"{name}: not {error.encoding.upper()}: {error.reason}") from None


def is_packed(content: bytes) -> bool:
    """Whether a file's content is packed with gzip."""
    return content[:2] == _GZIP


def _lines(file: io.BufferedReader, path: Path, refusal: type[Refusal]) -> Iterator[bytes]:
    packed = is_packed(file.peek(2))
    stream = io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file
    encoding = json.detect_encoding(stream.peek(4)[:4])
    if encoding.startswith("utf-8"):
        lines = iter(lambda: stream.readline(MOST_BYTES + 1), b"")
    else:
        text = io.TextIOWrapper(stream, encoding, newline="\n")
        lines = iter(lambda: text.readline(MOST_BYTES + 1).encode(), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > MOST_BYTES:
            raise refusal(
                f"{path}:{number}: the line has more than {MOST}; write one value per line"
            )
        yield line.removeprefix(BOM_UTF8)
