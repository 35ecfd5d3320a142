"""Files of JSON values, one a line in UTF-8, and variants that other programs write.

The variants: packed with gzip; in UTF-16 or UTF-32; one array; values that span several lines.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from service import text_lines
from service.files import written_whole
from service.text_lines import Refusal, lines_of
from service.unique_names import NameTwice, unique_names

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(object_pairs_hook=unique_names)


def read_json_lines(path: Path, refusal: type[Refusal]) -> Iterator[tuple[str, Any]]:
    """The values of a file with their places: `3` for line 3, `1, item 3` in an array.

    Empty lines and a byte order mark are skipped.

    Args:
        refusal: the error type to raise; the message names the file and the place.

    Raises:
        refusal: there is no such file, or a line is not UTF-8, not JSON, or JSON that cannot be
            read: too deep, too long, with a duplicate name in an object, or with a number of
            thousands of digits.
    """
    for place, value in read_each(path, refusal):
        if isinstance(value, refusal):
            raise value
        yield place, value


def read_each(path: Path, refusal: type[Refusal]) -> Iterator[tuple[str, Any]]:
    """As `read_json_lines`, but yield the refusal of an invalid line in its place, and go on.

    Raises:
        refusal: the file cannot be read, or not to its end.
    """
    return values_of(lines_of(path, refusal), path, refusal)


def write_json_lines(values: Iterable[Any], path: Path) -> int:
    """Write each value on a line of its own, atomically; return their number."""
    count = 0
    with written_whole(path) as file:
        for value in values:
            file.write(line_of(value))
            count += 1
    return count


def line_of(value: Any) -> str:
    """A value as a line of such a file, with its line break."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def values_of(
    lines: Iterable[bytes], path: Path, refusal: type[Refusal]
) -> Iterator[tuple[str, Any]]:
    """As `read_each`, of lines that were read from `path`, each with its line break.

    Raises:
        refusal: a value of several lines is invalid or too long.
    """
    rest = (line.rstrip() for line in lines)
    head = _up_to_a_value(rest)
    first = len(head)
    value = _parsed(head[-1]) if head else None
    if isinstance(value, ValueError | list) and not isinstance(value, NameTwice):
        head += _up_to_a_value(rest)
        if head[first - 1] in (b"[", b"{") or _is_document(value, head[first:]):
            whole = _whole(chain(head, rest), path, refusal)
            try:
                yield from _of_document(whole.decode())
                return
            except json.JSONDecodeError as error:
                if error.lineno > first:
                    raise refusal(f"{path}:{error.lineno}: {_why(error)}") from None
            except (ValueError, RecursionError) as error:
                raise refusal(f"{path}: {_why(error)}") from None
            head = whole.split(b"\n")  # only the first line is invalid
    for number, line in enumerate(chain(head, rest), start=1):
        if line:
            value = _parsed(line)
            if isinstance(value, ValueError):
                value = refusal(f"{path}:{number}: {value}")
            yield str(number), value


def _up_to_a_value(lines: Iterator[bytes]) -> list[bytes]:
    """Blank lines and the one after them."""
    taken = []
    for line in lines:
        taken.append(line)
        if line:
            break
    return taken


def _is_document(first: list[Any] | ValueError, after: list[bytes]) -> bool:
    """Whether a file must be parsed as a whole.

    Args:
        first: the value of the first line, if it is an array, or the error.
        after: the lines after it, up to the next that is not blank.
    """
    goes_on = bool(after and after[-1])
    if isinstance(first, list):
        return not goes_on
    return goes_on and not isinstance(_parsed(after[-1]), dict | NameTwice)


def _whole(lines: Iterable[bytes], path: Path, refusal: type[Refusal]) -> bytes:
    whole = bytearray()
    for line in lines:
        whole += line + b"\n"
        if len(whole) > text_lines.MOST_BYTES:
            raise refusal(
                f"{path}: one value has more than {text_lines.MOST}; write one value per line"
            )
    return bytes(whole)


def _of_document(text: str) -> list[tuple[str, Any]]:
    """The values of a text, one after another, with an array replaced by its items."""
    values: list[tuple[int, str, Any]] = []
    at = _past_space(text, 0)
    while at < len(text):
        if text[at] == "[":
            items, end = _items(text, at)
            values += [(start, f", item {n}", item) for n, (start, item) in enumerate(items, 1)]
        else:
            value, end = _DECODER.raw_decode(text, at)
            values.append((at, "", value))
        at = _past_space(text, end)
    placed, line, before = [], 1, 0
    for start, suffix, value in values:
        line += text.count("\n", before, start)
        before = start
        placed.append((f"{line}{suffix}", value))
    return placed


def _items(text: str, at: int) -> tuple[list[tuple[int, Any]], int]:
    """The items of the array that begins at `at`, each with its offset, and the array's end."""
    items: list[tuple[int, Any]] = []
    at = _past_space(text, at + 1)
    while text[at : at + 1] != "]":
        if items:
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _past_space(text, at + 1)
        value, end = _DECODER.raw_decode(text, at)
        items.append((at, value))
        at = _past_space(text, end)
    return items, at + 1


def _past_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _parsed(line: bytes) -> Any:
    """The value of a line, or a ValueError with the reason why there is none."""
    try:
        return json.loads(line.decode(), object_pairs_hook=unique_names)
    except NameTwice as error:
        return error
    except (ValueError, RecursionError) as error:
        return ValueError(_why(error))


def _why(error: ValueError | RecursionError) -> str:
    match error:
        case UnicodeDecodeError():
            return f"not UTF-8: {error.reason}"
        case json.JSONDecodeError():
            return f"not JSON: {error.msg} at column {error.colno}"
        case NameTwice():
            return str(error)
    return f"cannot be read as JSON: {error}"
