"""The `Content-Type` header (RFC 9110, section 8.3) of a body."""

import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from service.api.problems.kinds import NOT_JSON

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
    return _JSON.fullmatch(_media_type(content_type)) is not None


def is_lines(content_type: str) -> bool:
    """Whether it is NDJSON, by any of its names."""
    return _media_type(content_type) in LINES


def check_charset(headers: Headers) -> None:
    """Refuse a body whose declared charset is not UTF-8.

    Raises:
        HTTPException: 415, the charset is not UTF-8.
    """
    for name, quoted, plain in _PARAMETER.findall(headers.get("content-type", "")):
        if name.lower() == "charset" and (quoted or plain).lower() not in _UTF_8:
            detail = "Content-Type: the charset must be UTF-8 (RFC 8259)"
            raise HTTPException(NOT_JSON.status, detail)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def is_ndjson(scope: Scope) -> bool:
    """Whether a request's body is declared as NDJSON."""
    return is_lines(Headers(scope=scope).get("content-type", ""))
