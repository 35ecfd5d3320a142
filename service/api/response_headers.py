"""Names of response headers, and their documentation.

Routes document the headers that they set with `carrying`; `service.api.openapi_document` documents
those that middleware adds to every response.
"""

from collections.abc import Mapping
from typing import Any

ETAG = "ETag"
LINK = "Link"
LOCATION = "Location"
REPLAYED = "Idempotency-Replayed"
REQUEST_ID = "X-Request-Id"
SERVER_TIMING = "Server-Timing"
APPLIED = "Preference-Applied"
UNREAD = "Unread-Lines"
RETRY_AFTER = "Retry-After"
AUTHENTICATE = "WWW-Authenticate"
CONNECTION = "Connection"
ACCEPT_ENCODING = "Accept-Encoding"
CACHE_CONTROL = "Cache-Control"
QUOTA = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")

# Users' texts must not be rendered as a page, nor outlive their erasure in a cache. A route may
# allow more.
EVERY_RESPONSE: Mapping[str, str] = {"X-Content-Type-Options": "nosniff", CACHE_CONTROL: "no-store"}
# Only the client may cache it, and must revalidate each time.
KEPT_BY_CLIENTS: Mapping[str, str] = {CACHE_CONTROL: "private, no-cache"}
# Of streams, so that proxies do not buffer them.
UNBUFFERED: Mapping[str, str] = {"X-Accel-Buffering": "no"}


def _text(description: str, pattern: str | None = None, example: str | None = None) -> Any:
    schema = {"type": "string"} if pattern is None else {"type": "string", "pattern": pattern}
    examples = {} if example is None else {"example": example}
    return {"description": description, "schema": schema, **examples}


def _count(description: str, least: int = 0) -> Any:
    return {"description": description, "schema": {"type": "integer", "minimum": least}}


HEADERS: Mapping[str, Mapping[str, Any]] = {
    ETAG: _text(
        "The dialogue's version, which changes with every write. A replayed response has none.",
        '^"[0-9a-f]+\\.[0-9]+"$',
        '"5f3a.2"',
    ),
    LINK: _text("The next page, if there is one.", example='</dialogues/a>; rel="next"'),
    LOCATION: _text("The path of the job.", "^(/[A-Za-z0-9._~-]+)*/jobs/", "/jobs/5f3a"),
    REPLAYED: _text("The response is that of an earlier request with the key.", "^true$"),
    REQUEST_ID: _text("The request's id: yours, or a new one.", r"^[A-Za-z0-9._:/+=@-]+$"),
    SERVER_TIMING: _text(
        "The milliseconds spent in each stage (W3C Server Timing).",
        example="store;dur=0.90, decode;dur=11.69",
    ),
    APPLIED: _text("The preferences that were applied (RFC 7240).", example="wait=5"),
    UNREAD: _count("How many lines, rows or cues could not be read."),
    RETRY_AFTER: _count("Seconds to wait before a retry.", least=1),
    AUTHENTICATE: _text("How to authenticate, and the scope that is missing (RFC 6750)."),
    CONNECTION: _text("`close`: this is the connection's last response."),
    ACCEPT_ENCODING: _text("The supported encodings of a body, if yours is not one of them."),
    "RateLimit-Limit": _count("Requests that the key's quota allows at once, if it has a quota."),
    "RateLimit-Remaining": _count("How many of them remain."),
    "RateLimit-Reset": _count("Seconds until all of them are available again."),
    "X-Content-Type-Options": _text(
        "Browsers must use `Content-Type` and not guess the type.", "^nosniff$"
    ),
    CACHE_CONTROL: _text(
        "`no-store`: do not cache it. `private, no-cache`: you may cache it, and revalidate it "
        "with `If-None-Match` before each use.",
        "^(no-store|private, no-cache)$",
    ),
    "X-Accel-Buffering": _text("Proxies must not buffer the stream.", "^no$"),
}


def carrying(*names: str) -> dict[str, Any]:
    """The part of a route's `responses=` that documents a response's headers."""
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}
