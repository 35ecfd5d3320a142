"""JSON of requests, parsed within bounds so that no body costs more than a few milliseconds.

A megabyte can hold half a million lists, and each unknown member is an error of its own: the cost
of a body depends on its values, not its bytes. They are counted before the body is parsed, and its
shape is checked before it is validated.
"""

import json
import re
from codecs import BOM_UTF8
from typing import Any

import orjson

from service.api.problems.answers import invalid
from service.settings import Limits

# An utterance or demonstration has at most six values. The margin lets the checks of
# `service.api.limits`, which name place and number, refuse bodies slightly too large.
_VALUES_OF_EACH = 8
_VALUES_BESIDE = 1000

# No schema has a tenth of the members or half the depth.
_MOST_MEMBERS = 64
_DEEPEST = 12
_LONGEST_NAME = 200

# A character that precedes a value, or a whole string, which is skipped. An unterminated string
# extends to the end of the body, so that nothing is scanned twice.
_TOKEN = re.compile(rb'[,\[{]|("[^"\\]*+(?:\\.[^"\\]*+)*+"?)', re.DOTALL)


def read_json(content: bytes, limits: Limits) -> Any:
    """Parse a body, or a line of one.

    Python's own parser accepts NaN and lone surrogates, and fails on deep nesting and long integers
    with errors other than JSON errors; this one is strict. A byte order mark is ignored, as
    RFC 8259, section 8.1, allows.

    Raises:
        orjson.JSONDecodeError: the content is not JSON.
        RequestValidationError: it has more values, members or levels than any request needs; the
            error says where.
    """
    if (encoding := json.detect_encoding(content)).startswith(("utf-16", "utf-32")):
        raise orjson.JSONDecodeError(
            f"is encoded in {encoding[:6].upper()}; send JSON in UTF-8", "", 0
        )
    content = content.removeprefix(BOM_UTF8)
    most = _VALUES_OF_EACH * (limits.batch_utterances + limits.batch_dialogues) + _VALUES_BESIDE
    if _has_more_values(content, most):
        raise invalid(detail=f"contains more than {most} values, which is the limit")
    value = orjson.loads(content)
    _check_shape(value, ())
    return value


def _has_more_values(content: bytes, most: int) -> bool:
    """Whether there are more values: each but the first follows a comma or a bracket."""
    if sum(map(content.count, (b",", b"[", b"{"))) < most:  # an upper bound: strings count too
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
