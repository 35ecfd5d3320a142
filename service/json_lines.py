"""Files of one JSON value a line, UTF-8."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from service.files import written_whole


def read_json_lines(path: Path, refusal: type[ValueError]) -> Iterator[tuple[int, Any]]:
    """The values of a file and the lines they stand on, from 1.

    Empty lines are skipped, and so is a byte order mark.

    Args:
        refusal: what is raised; its message names the file and the line.

    Raises:
        refusal: no such file, or a line that is not UTF-8, not JSON, or JSON that cannot be read:
            too deep, or with a number of thousands of digits.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if not raw.strip():
                    continue
                try:  # without the line's end: an error's column would be counted from there
                    value = json.loads(raw.rstrip().decode("utf-8-sig" if number == 1 else "utf-8"))
                except UnicodeDecodeError as error:
                    raise refusal(f"{path}:{number}: not UTF-8: {error.reason}") from None
                except json.JSONDecodeError as error:
                    message = f"{path}:{number}: not JSON: {error.msg} at column {error.colno}"
                    raise refusal(message) from None
                except (ValueError, RecursionError) as error:
                    message = f"{path}:{number}: not JSON that can be read: {error}"
                    raise refusal(message) from None
                yield number, value
    except OSError as error:
        raise refusal(f"{path}: {error.strerror}") from None


def write_json_lines(values: Iterable[Any], path: Path) -> int:
    """Write each value on a line of its own, and say how many there are.

    The file is there whole or not at all, as with `service.files.written_whole`.
    """
    count = 0
    with written_whole(path) as file:
        for value in values:
            file.write(line_of(value))
            count += 1
    return count


def line_of(value: Any) -> str:
    """A value as such a file has it, with the line's end."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def lone_surrogate(text: str) -> int | None:
    """Where a text has half of a surrogate pair, which JSON can spell and UTF-8 cannot hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None
