"""The `Accept` header (RFC 9110, section 12.5.1): the media type of the response."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Header
from starlette.exceptions import HTTPException

from service.api.problems.kinds import NOT_ACCEPTABLE

Accept = Annotated[str | None, Header(include_in_schema=False)]


def accepted(accept: str | None, offered: Sequence[str]) -> str:
    """The offered media type that the client prefers; the first among equals.

    Raises:
        HTTPException: 406, the client accepts none of them.
    """
    best = preferred(accept, offered)
    if accept is not None and _quality(best, _ranges(accept)) <= 0:
        raise HTTPException(NOT_ACCEPTABLE.status, f"the response can be {' or '.join(offered)}")
    return best


def preferred(accept: str | None, offered: Sequence[str]) -> str:
    """As `accepted`, but where the client accepts none of them, the first."""
    ranges = _ranges(accept or "")
    return max(offered, key=lambda media_type: _quality(media_type, ranges))


def _ranges(accept: str) -> list[tuple[str, float]]:
    return [_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]


def _range(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality value of the most specific range that matches; 0 where none does."""
    for name in (media_type, f"{media_type.split('/')[0]}/*", "*/*"):
        for media_range, quality in ranges:
            if media_range == name:
                return quality
    return 0.0
