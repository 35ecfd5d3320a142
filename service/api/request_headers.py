"""What the head of a request says: `Accept`, `Content-Type`, `Prefer`, and the conditions
`If-Match` and `If-None-Match` (RFC 9110, RFC 7240); and whether only a head is asked for.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated

from fastapi import Depends, Header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from service.api.problems.answers import invalid
from service.api.problems.kinds import NOT_ACCEPTABLE, NOT_JSON
from service.dialogue_format import Patterned
from service.sessions.records import Expected, Version

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


_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_TAGS = re.compile(rf"\s*(?:\*|{_TAG.pattern}(?:\s*,\s*{_TAG.pattern})*)\s*")
_ANY = "*"

_Tags = Annotated[str, Patterned(f"^{_TAGS.pattern}$")]


def etag(version: Version) -> str:
    """The header's value: a strong entity tag, which changes with every write."""
    return f'"{version}"'


async def _if_match(
    if_match: Annotated[
        _Tags | None,
        Header(
            alias="If-Match",
            description="The `ETag` of the dialogue as you know it, or `*`: the request is refused "
            "if the dialogue has changed since.",
        ),
    ] = None,
) -> Expected | None:
    if if_match is None:
        return None
    if if_match.strip() == _ANY:
        return Expected(None)
    # `If-Match` compares strongly: a weak tag matches nothing.
    return Expected(frozenset(tag for weak, tag in _tags("If-Match", if_match) if not weak))


async def _if_none_match(
    if_none_match: Annotated[
        _Tags | None,
        Header(
            alias="If-None-Match",
            description="The `ETag` that you have: while it is current, the response is 304.",
        ),
    ] = None,
) -> Expected | None:
    if if_none_match is None:
        return None
    if if_none_match.strip() == _ANY:
        return Expected(None)
    return Expected(frozenset(tag for _, tag in _tags("If-None-Match", if_none_match)))


def _tags(header: str, value: str) -> list[tuple[bool, str]]:
    if not _TAGS.fullmatch(value):
        raise invalid(header, detail='must be entity tags such as "5f.3", or *', source="header")
    return [(bool(weak), tag) for weak, tag in _TAG.findall(value)]


IfMatch = Annotated[Expected | None, Depends(_if_match)]
IfNoneMatch = Annotated[Expected | None, Depends(_if_none_match)]


JSON = "application/json"
NDJSON = "application/x-ndjson"
LINES = (
    NDJSON,
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
)
"""The media types in use for NDJSON, none of them registered; the first is the usual one."""

_JSON = re.compile(r"application/(?:[^;\s]+\+)?json")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')
# ASCII is a subset of UTF-8.
_UTF_8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})


def is_json(content_type: str) -> bool:
    """Whether it is JSON or a format based on it (`application/problem+json`)."""
    return _JSON.fullmatch(media_type_of(content_type)) is not None


def is_lines(content_type: str) -> bool:
    """Whether it is NDJSON, by any of its names."""
    return media_type_of(content_type) in LINES


def check_charset(headers: Headers) -> None:
    """Refuse a body whose declared charset is not UTF-8.

    Raises:
        HTTPException: 415, the charset is not UTF-8.
    """
    for name, quoted, plain in _PARAMETER.findall(headers.get("content-type", "")):
        if name.lower() == "charset" and (quoted or plain).lower() not in _UTF_8:
            detail = "Content-Type: the charset must be UTF-8 (RFC 8259)"
            raise HTTPException(NOT_JSON.status, detail)


def media_type_of(content_type: str) -> str:
    """The media type in `Content-Type`, without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_ndjson(scope: Scope) -> bool:
    """Whether a request's body is declared as NDJSON."""
    return is_lines(Headers(scope=scope).get("content-type", ""))


_WAIT = re.compile(r"wait\s*=\s*\"?(\d{1,9})\"?", re.IGNORECASE)


def prefers_async(fields: Iterable[str]) -> bool:
    """Whether `Prefer` headers ask for a response before the work is done."""
    preferences = (part.split(";")[0] for field in fields for part in field.split(","))
    return any(name.strip().lower() == "respond-async" for name in preferences)


def preferred_wait(fields: Iterable[str]) -> int | None:
    """The seconds of the first `wait=` among the preferences of `Prefer` headers."""
    for field in fields:
        for preference in field.split(","):
            if wait := _WAIT.fullmatch(preference.split(";")[0].strip()):
                return int(wait[1])
    return None


HEAD_REQUEST = "head_request"
"""The key in a request's state that is there where the method is HEAD."""


def is_head(scope: Scope) -> bool:
    """Whether the request asks only for the head of the response to GET."""
    return HEAD_REQUEST in scope["state"]
