"""Names of response headers, and their documentation.

Routes name those that they set, with `carrying`; what middleware adds to every answer,
`service.api.openapi_document` adds to each in the document.
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
RETRY_AFTER = "Retry-After"
AUTHENTICATE = "WWW-Authenticate"
CONNECTION = "Connection"
ACCEPT_ENCODING = "Accept-Encoding"
CACHE_CONTROL = "Cache-Control"
QUOTA = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")

# Users' words are no page, whatever a browser makes of them; and what is erased is to be in no
# cache. A route may allow more.
EVERY_ANSWER: Mapping[str, str] = {"X-Content-Type-Options": "nosniff", CACHE_CONTROL: "no-store"}
# The client alone may keep it, and asks each time whether it is still so.
KEPT_BY_CLIENTS: Mapping[str, str] = {CACHE_CONTROL: "private, no-cache"}
# Of streams, so that nothing on their way gathers what they send.
UNBUFFERED: Mapping[str, str] = {"X-Accel-Buffering": "no"}


def _text(description: str, pattern: str | None = None, example: str | None = None) -> Any:
    schema = {"type": "string"} if pattern is None else {"type": "string", "pattern": pattern}
    shown = {} if example is None else {"example": example}
    return {"description": description, "schema": schema, **shown}


def _count(description: str, least: int = 0) -> Any:
    return {"description": description, "schema": {"type": "integer", "minimum": least}}


HEADERS: Mapping[str, Mapping[str, Any]] = {
    ETAG: _text(
        "The dialogue's version, another one after every write. An answer that is replayed has "
        "none.",
        '^"[0-9a-f]+\\.[0-9]+"$',
        '"5f3a.2"',
    ),
    LINK: _text("Where the timeline goes on, where it does.", example='</dialogues/a>; rel="next"'),
    LOCATION: _text("Where the job is.", "^(/[A-Za-z0-9._~-]+)*/jobs/", "/jobs/5f3a"),
    REPLAYED: _text("The answer is that of an earlier request with the key.", "^true$"),
    REQUEST_ID: _text("The request's id: yours, or one that was made.", r"^[A-Za-z0-9._:/+=@-]+$"),
    SERVER_TIMING: _text(
        "How many milliseconds each stage took (W3C Server Timing).",
        example="store;dur=0.90, decode;dur=11.69",
    ),
    APPLIED: _text("Which of your preferences were followed (RFC 7240).", example="wait=5"),
    RETRY_AFTER: _count("Seconds until it is worth another try.", least=1),
    AUTHENTICATE: _text("How to authenticate, and the scope that is missing (RFC 6750)."),
    CONNECTION: _text("`close`: this is the connection's last answer."),
    ACCEPT_ENCODING: _text("How a body may be packed, where yours is packed otherwise."),
    "RateLimit-Limit": _count("Requests at once that the key's quota allows, where it has one."),
    "RateLimit-Remaining": _count("How many of them are left."),
    "RateLimit-Reset": _count("Seconds until all of them are there again."),
    "X-Content-Type-Options": _text("It is what `Content-Type` says.", "^nosniff$"),
    CACHE_CONTROL: _text(
        "`no-store`: it is not to be kept. `private, no-cache`: you may keep it, and ask with "
        "`If-None-Match` each time that you need it.",
        "^(no-store|private, no-cache)$",
    ),
    "X-Accel-Buffering": _text("Proxies pass it on as it comes.", "^no$"),
}


def carrying(*names: str) -> dict[str, Any]:
    """The part of a route's `responses=` that says which headers an answer may carry."""
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}
