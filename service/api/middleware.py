"""What happens around every request: its id, its span, its count, its answer when all fails."""

import logging
import re
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.headers import EVERY_ANSWER, REQUEST_ID
from service.api.policies import policy_of
from service.api.problem_kinds import INTERNAL_ERROR
from service.api.problems import PROBLEM, problem_answer
from service.observability.correlation import about
from service.observability.metrics import Metrics
from service.traces import current_exemplar

if TYPE_CHECKING:
    from service.observability.tracing import Traces

log = logging.getLogger(__name__)

UNMATCHED = "unmatched"

_USABLE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)


class RequestIds:
    """Gives every request an id, `request.state.request_id`, and every answer the same.

    A client's own is taken where it is harmless in a log, else a new one is made.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get(REQUEST_ID, "")
        if not _USABLE_ID.fullmatch(request_id):
            request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with about(scope):
            await self.app(scope, receive, naming)


class SecurityHeaders:
    """Has browsers take every answer for what it is declared as, and keep it only where a route
    lets them: words of users are no page, and are gone once they are erased.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def securing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in EVERY_ANSWER.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, securing)


class TracedRequests:
    """Gives every request a span, but for those that operators' machinery sends all the time."""

    def __init__(self, app: ASGIApp, traces: "Traces") -> None:
        self.app = app
        self.traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or policy_of(scope).priority is None:
            await self.app(scope, receive, send)
            return
        method, status = _method(scope), 500

        async def watching(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self.traces.request(method, Headers(scope=scope)) as tell_answer:
            try:
                await self.app(scope, receive, watching)
            finally:
                tell_answer(_route(scope), status)


class CountedRequests:
    """Counts requests and times them, by route template; and problems, by type."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        start = perf_counter()

        async def watching(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watching)
        finally:
            route = _route(scope)
            self.metrics.requests.labels(_method(scope), route, status).inc()
            seconds = perf_counter() - start
            self.metrics.request_seconds.labels(route).observe(seconds, current_exemplar())
            problem = scope["state"].get(PROBLEM)
            if problem is not None:
                self.metrics.count_problem(problem)


class AnsweredFailures:
    """Answers what nobody foresaw with a problem that says nothing, and logs the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watching)
        except Exception:
            request_id = scope["state"]["request_id"]
            if started:  # all that is left is to break the connection off
                raise
            log.exception("request %s failed", request_id)
            detail = "the log has the cause, under the request's id"
            answer = problem_answer(request_id, INTERNAL_ERROR, detail)
            await answer(scope, receive, watching)


def _route(scope: Scope) -> str:
    """The template that the router has left in the scope, if it found one."""
    route: str = getattr(scope.get("route"), "path", UNMATCHED)
    return route


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in _METHODS else "other"
