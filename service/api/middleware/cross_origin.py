"""Middleware for cross-origin requests (CORS) from configured origins.

Keys are sent by the page itself, not by the browser: no answer allows credentials.
"""

from collections.abc import Collection, Mapping

from fastapi import Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems.answers import problem_answer
from service.api.problems.kinds import BAD_REQUEST
from service.api.response_headers import HEADERS
from service.observability.correlation import request_id

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
# What requests say, beside what browsers let every page say.
_SAID = (
    *("Authorization", "Baggage", "Cache-Control", "Content-Encoding", "Idempotency-Key"),
    *("If-Match", "If-None-Match", "Last-Event-ID", "Prefer", "Traceparent", "Tracestate"),
    "X-Request-Id",
)
_EXPOSED = (*HEADERS, "Allow")

_ASKED_FOR = "access-control-request-headers"


class SharedWithOrigins(CORSMiddleware):
    """Has every answer to a page of these origins say that the page may read it.

    What a page of another origin asks goes on as if there were no such layer: the browser keeps
    the answer from it. A preflight needs no key; browsers send none.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_SAID,
            expose_headers=_EXPOSED,
            allow_private_network=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).getlist("origin")
        if len(given) == 1 and self.is_allowed_origin(given[0]):
            await super().__call__(scope, receive, send)
        else:
            await self.simple_response(scope, receive, send, request_headers=Headers())

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(_without_empty_names(request_headers))
        if answer.status_code == 200:
            return answer
        headers = {n: v for n, v in answer.headers.items() if not n.startswith("content-")}
        detail = f"of pages, {', '.join(_METHODS)} are taken, with {', '.join(_SAID)}"
        return problem_answer(request_id() or "", BAD_REQUEST, detail, headers)


def _without_empty_names(asked: Headers) -> Headers:
    """The same where the list of headers has empty elements, or none (RFC 9110, section 5.6.1)."""
    others = {name: value for name, value in asked.items() if name != _ASKED_FOR}
    names = ",".join(asked.getlist(_ASKED_FOR)).split(",")
    named = ", ".join(filter(None, map(str.strip, names)))
    return Headers({**others, _ASKED_FOR: named} if named else others)


def shared_with(origin: str | None, origins: Collection[str]) -> Mapping[str, str]:
    """The headers by which a page of an origin may read an answer; none if it is not named."""
    if origin not in origins:
        return {}
    return {
        "Access-Control-Allow-Origin": str(origin),
        "Access-Control-Expose-Headers": ", ".join(_EXPOSED),
        "Vary": "Origin",
    }
