"""Places in lists as clients send them back: opaque text that is safe in a query."""

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson


def encoded(place: Sequence[Any]) -> str:
    """A place, made of numbers, strings and moments."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).rstrip(b"=").decode()


def decoded(cursor: str) -> Any:
    """What was encoded, with moments as text; or any other JSON value, which somebody made up.

    Raises:
        ValueError: it is not such a text.
    """
    padded = cursor + "=" * (-len(cursor) % 4)
    return orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))


def dialogue_in(value: Any) -> str:
    """The id of a dialogue in a decoded place.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("no dialogue")
    return value


def number_in(value: Any) -> float:
    """The finite number in a decoded place.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, float):
        raise ValueError("no number")
    return value


def moment_in(value: Any) -> datetime:
    """The moment in a decoded place, in UTC.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError("no moment")
    moment = datetime.fromisoformat(value)
    if moment.utcoffset() != timedelta(0):
        raise ValueError("not in UTC")
    return moment
