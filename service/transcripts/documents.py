"""Fields of JSON documents, read with their paths."""

import math
from typing import Any

from service.transcripts.segments import MOST_SEGMENTS, TranscriptError

Object = dict[str, Any]


def items(value: Object, name: str, where: str = "") -> list[tuple[str, Object]]:
    """The objects of a list, each with its path.

    Raises:
        TranscriptError: the field is not a list of objects, or there are too many.
    """
    path = f"{where}{name}"
    rows = value.get(name)
    if not isinstance(rows, list):
        raise TranscriptError(f"{path} {'is missing' if rows is None else 'must be a list'}")
    if len(rows) > MOST_SEGMENTS:
        raise TranscriptError(f"{path} has more than {MOST_SEGMENTS:,} items; split the transcript")
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TranscriptError(f"{path}[{index}] must be an object")
    return [(f"{path}[{index}].", row) for index, row in enumerate(rows)]


def text_at(value: Object, name: str, where: str) -> str:
    """A required string.

    Raises:
        TranscriptError: it is missing or not a string.
    """
    text = optional_text_at(value, name, where)
    if text is None:
        raise TranscriptError(f"{where}{name} is missing")
    return text


def optional_text_at(value: Object, name: str, where: str) -> str | None:
    """A string; None if it is missing or null.

    Raises:
        TranscriptError: it is not a string.
    """
    text = value.get(name)
    if text is not None and not isinstance(text, str):
        raise TranscriptError(f"{where}{name} must be a string")
    return text


def seconds_at(value: Object, name: str, where: str, per_second: int = 1) -> float | None:
    """A time in seconds, perhaps not a valid one; None if it is missing, null or NaN.

    Args:
        per_second: 1000 if the document counts milliseconds.

    Raises:
        TranscriptError: it is not a number.
    """
    time = value.get(name)
    if time is None:
        return None
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise TranscriptError(f"{where}{name} must be a number")
    try:
        return None if math.isnan(time) else time / per_second
    except OverflowError:  # an integer of hundreds of digits, which is no time either
        return math.inf


def integer_at(value: Object, name: str, where: str) -> int | None:
    """An integer; None if it is missing or null.

    Raises:
        TranscriptError: it is not an integer.
    """
    number = value.get(name)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise TranscriptError(f"{where}{name} must be an integer")
    return number
