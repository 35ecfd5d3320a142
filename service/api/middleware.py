"""What happens around every request: its id, its count, and the answer when the service fails."""

import logging
import re
from time import perf_counter
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import INTERNAL_ERROR, PROBLEM, problem_answer
from service.observability.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_ID = "X-Request-Id"
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

        await self.app(scope, receive, naming)


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
            # The router has left its route in the scope, if it found one.
            route = getattr(scope.get("route"), "path", UNMATCHED)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.requests.labels(method, route, status).inc()
            self.metrics.request_seconds.labels(route).observe(perf_counter() - start)
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
