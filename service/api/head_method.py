"""Middleware that answers HEAD as GET without the body (RFC 9110, 9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observability.correlation import about

_ASKED = "head_asked"


class HeadAsGet:
    """Has routes answer HEAD as GET, and leaves the body out.

    Layers outside see HEAD. A stream, whose length nobody knows, looks with `is_head` and is not
    begun.
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

        scope["state"][_ASKED] = True
        # A copy: the server looks in its own whether a body may follow.
        asked = {**scope, "method": "GET"}
        try:
            with about(asked):
                await self.app(asked, receive, without_body)
        finally:
            scope["route"] = asked.get("route")


def is_head(scope: Scope) -> bool:
    """Whether only the head of what GET would be answered is asked for."""
    return _ASKED in scope["state"]
