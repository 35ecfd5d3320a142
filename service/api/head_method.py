"""Middleware that answers HEAD as GET without the body (RFC 9110, 9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability.correlation import about

_HEAD_REQUEST = "head_request"


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

        scope["state"][_HEAD_REQUEST] = True
        # A copy: the server reads in its own scope whether a body may follow.
        as_get = {**scope, "method": "GET"}
        try:
            with about(as_get):
                await self.app(as_get, receive, without_body)
        finally:
            scope["route"] = as_get.get("route")


def is_head(scope: Scope) -> bool:
    """Whether the request asks only for the head of the response to GET."""
    return _HEAD_REQUEST in scope["state"]
