"""JSON of requests, parsed within bounds so that no body costs more than a few milliseconds.

A megabyte may spell half a million lists, and a member that no model knows is an error of its own:
what a body costs goes by its values rather than by its bytes. They are counted before it is parsed,
and its shape is looked at before it is validated.
"""

import json
import re
from codecs import BOM_UTF8
from typing import Any

import orjson

from service.api.problems.answers import invalid
from service.settings import Limits

# Values of an utterance or demonstration, as a reader counts them: at most six. Somewhat beyond,
# what is too much is told by its place and number.
_VALUES_OF_EACH = 8
_VALUES_BESIDE = 1000

# No model has a tenth of the members, or is nested half as deep.
_MOST_MEMBERS = 64
_DEEPEST = 12
_LONGEST_NAME = 200

# What has a value behind it, or a string, passed over whole. A string without an end goes on to the
# body's: nothing is looked at twice, whatever it holds.
_TOKEN = re.compile(rb'[,\[{]|("[^"\\]*+(?:\\.[^"\\]*+)*+"?)', re.DOTALL)


def read_json(content: bytes, limits: Limits) -> Any:
    """The value that a body, or a line of one, spells.

    Python's own reader takes NaN and lone surrogates, and fails on deep nesting and long integers
    with errors that are no JSON errors; this one goes by the letter. A byte order mark is passed
    over, as a reader may (RFC 8259, section 8.1).

    Raises:
        orjson.JSONDecodeError: it is no JSON.
        RequestValidationError: it has more values, members or levels than any request needs; it
            says where.
    """
    if (encoding := json.detect_encoding(content)).startswith(("utf-16", "utf-32")):
        raise orjson.JSONDecodeError(f"is {encoding[:6].upper()}, JSON is sent in UTF-8", "", 0)
    content = content.removeprefix(BOM_UTF8)
    most = _VALUES_OF_EACH * (limits.batch_utterances + limits.batch_dialogues) + _VALUES_BESIDE
    if _has_more_values(content, most):
        raise invalid(detail=f"holds more than {most} values, the most that are read")
    value = orjson.loads(content)
    _check_shape(value, ())
    return value


def _has_more_values(content: bytes, most: int) -> bool:
    """Whether there are more values: each but the first has a comma or a bracket before it."""
    if sum(map(content.count, (b",", b"[", b"{"))) < most:  # those in strings among them
        return False
    count = 1
    for token in _TOKEN.finditer(content):
        count += token.lastindex is None
        if count > most:
            return True
    return False


def _check_shape(value: Any, where: tuple[str | int, ...]) -> None:
    if len(where) >= _DEEPEST:
        raise invalid(*where, detail=f"is nested deeper than {_DEEPEST} levels")
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, list | dict):
                _check_shape(item, (*where, index))
    elif isinstance(value, dict):
        if len(value) > _MOST_MEMBERS:
            detail = f"has {len(value)} members, at most {_MOST_MEMBERS} are allowed"
            raise invalid(*where, detail=detail)
        for name, member in value.items():
            if len(name) > _LONGEST_NAME:
                detail = (
                    f"has a member whose name has {len(name)} characters; at most "
                    f"{_LONGEST_NAME} are allowed"
                )
                raise invalid(*where, detail=detail)
            if isinstance(member, list | dict):
                _check_shape(member, (*where, name))
