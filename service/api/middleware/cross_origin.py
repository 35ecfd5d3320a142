"""Middleware for cross-origin requests (CORS) from configured origins.

The page itself sends the key, not the browser: no response allows credentials.
"""

from collections.abc import Collection, Mapping

from fastapi import Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems.answers import problem_response
from service.api.problems.kinds import BAD_REQUEST
from service.api.response_headers import HEADERS
from service.observability.correlation import request_id

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
# Request headers that need permission, besides those that browsers let every page set.
_REQUEST_HEADERS = (
    *("Authorization", "Baggage", "Cache-Control", "Content-Encoding", "Idempotency-Key"),
    *("If-Match", "If-None-Match", "Last-Event-ID", "Prefer", "Traceparent", "Tracestate"),
    "X-Request-Id",
)
_EXPOSED = (*HEADERS, "Allow")

_REQUESTED = "access-control-request-headers"


class SharedWithOrigins(CORSMiddleware):
    """Lets pages of these origins read every response.

    Requests from pages of other origins pass unchanged: the browser withholds the response. A
    preflight needs no key, as browsers send none.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_EXPOSED,
            allow_private_network=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        origins = Headers(scope=scope).getlist("origin")
        if len(origins) == 1 and self.is_allowed_origin(origins[0]):
            await super().__call__(scope, receive, send)
        else:
            await self.simple_response(scope, receive, send, request_headers=Headers())

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(_without_empty_names(request_headers))
        if response.status_code == 200:
            return response
        headers = {n: v for n, v in response.headers.items() if not n.startswith("content-")}
        methods, names = ", ".join(_METHODS), ", ".join(_REQUEST_HEADERS)
        detail = f"a page may use the methods {methods} and the headers {names}"
        return problem_response(request_id() or "", BAD_REQUEST, detail, headers)


def _without_empty_names(headers: Headers) -> Headers:
    """Drop empty elements of the list of requested headers (RFC 9110, section 5.6.1)."""
    others = {name: value for name, value in headers.items() if name != _REQUESTED}
    elements = ",".join(headers.getlist(_REQUESTED)).split(",")
    requested = ", ".join(filter(None, map(str.strip, elements)))
    return Headers({**others, _REQUESTED: requested} if requested else others)


def shared_with(origin: str | None, origins: Collection[str]) -> Mapping[str, str]:
    """The headers that let pages of an origin read a response; none for other origins."""
    if origin not in origins:
        return {}
    return {
        "Access-Control-Allow-Origin": str(origin),
        "Access-Control-Expose-Headers": ", ".join(_EXPOSED),
        "Vary": "Origin",
    }
