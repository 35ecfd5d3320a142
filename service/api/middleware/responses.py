"""Middleware that gives every response its id and its security headers, answers unexpected errors,
and answers HEAD as GET without the body.
"""

import logging
import re
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems.answers import problem_response
from service.api.problems.kinds import INTERNAL_ERROR
from service.api.request_headers import HEAD_REQUEST
from service.api.response_headers import EVERY_RESPONSE, REQUEST_ID
from service.observability.correlation import about

log = logging.getLogger(__name__)

_USABLE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class CommonHeaders:
    """Gives every request an id, `request.state.request_id`, and its response the same, with the
    security headers.

    A client's own id is used if it is safe in a log; otherwise a new one is made. A route may set
    any of the security headers otherwise.
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

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in EVERY_RESPONSE.items():
                    headers.setdefault(name, value)
                headers[REQUEST_ID] = request_id
            await send(message)

        with about(scope):
            await self.app(scope, receive, with_headers)


class Sending:
    """Sends a response, and keeps its status.

    Attributes:
        status: None until the response has begun.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class AnsweredFailures:
    """Answers an unexpected error with a problem that reveals nothing, and logs the error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sending = Sending(send)
        try:
            await self.app(scope, receive, sending)
        except Exception:
            request_id = scope["state"]["request_id"]
            if sending.status is not None:  # only closing the connection remains
                raise
            log.exception("request %s failed", request_id)
            detail = "the log has the cause under the request's id"
            response = problem_response(request_id, INTERNAL_ERROR, detail)
            await response(scope, receive, sending)


class HeadAsGet:
    """Routes HEAD as GET, and drops the body of the response.

    Outer layers see HEAD. A stream, whose length is unknown, checks `is_head` and does not start.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["state"][HEAD_REQUEST] = True
        # A copy: the server reads in its own scope whether a body may follow.
        as_get = {**scope, "method": "GET"}
        try:
            with about(as_get):
                await self.app(as_get, receive, without_body)
        finally:
            scope["route"] = as_get.get("route")
