"""Middleware that counts, times and traces requests."""

from time import perf_counter
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.middleware.responses import Sending
from service.api.policies import policy_of
from service.api.problems.answers import PROBLEM
from service.observability.metrics import Metrics
from service.tracing import current_exemplar

if TYPE_CHECKING:
    from service.observability.opentelemetry import Traces

UNMATCHED = "unmatched"

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
# The status of a request without a response: an outer layer or the server ends it.
_NOTHING_SENT = 500


class TracedRequests:
    """Gives every request a span, except probes and scrapes."""

    def __init__(self, app: ASGIApp, traces: "Traces") -> None:
        self.app = app
        self.traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or policy_of(scope).priority is None:
            await self.app(scope, receive, send)
            return
        method, sending = _method(scope), Sending(send)
        with self.traces.request(method, Headers(scope=scope)) as record_response:
            try:
                await self.app(scope, receive, sending)
            finally:
                record_response(_route(scope), sending.status or _NOTHING_SENT)


class CountedRequests:
    """Counts and times requests by route template, and counts problems by type."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sending, start = Sending(send), perf_counter()
        try:
            await self.app(scope, receive, sending)
        finally:
            route = _route(scope)
            status = sending.status or _NOTHING_SENT
            self.metrics.requests.labels(_method(scope), route, status).inc()
            seconds = perf_counter() - start
            self.metrics.request_seconds.labels(route).observe(seconds, current_exemplar())
            problem = scope["state"].get(PROBLEM)
            if problem is not None:
                self.metrics.count_problem(problem)


def _route(scope: Scope) -> str:
    """The template that the router stores in the scope, if a route matches."""
    route: str = getattr(scope.get("route"), "path", UNMATCHED)
    return route


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "other"
