"""Bodies: bounded and strictly JSON on the way in, JSON on the way out."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.ndjson import is_ndjson
from service.api.problem_kinds import BODY_TOO_LARGE, NOT_JSON

JSON = "application/json"

_JSON = re.compile(r"application/(?:[^;\s]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)


class LimitedBody:
    """Middleware: refuses a body beyond `most_bytes` as soon as somebody reads it.

    By its Content-Length, before the first byte, or else by its bytes as they are counted.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, most_bytes_of_lines: int) -> None:
        """Set it up.

        Args:
            most_bytes_of_lines: the same for a body that is read a line at a time.
        """
        self.app = app
        self.most_bytes = most_bytes
        self.most_bytes_of_lines = most_bytes_of_lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0
        in_lines = scope["path"] == "/batch" and is_ndjson(scope)
        most_bytes = self.most_bytes_of_lines if in_lines else self.most_bytes

        async def counting() -> Message:
            nonlocal seen
            if seen == 0 and _declared_bytes(scope) > most_bytes:
                raise _refusal(most_bytes)
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most_bytes:
                raise _refusal(most_bytes)
            return message

        await self.app(scope, counting, send)


def _refusal(most_bytes: int) -> HTTPException:
    return HTTPException(BODY_TOO_LARGE.status, f"at most {most_bytes} bytes are taken")


def _declared_bytes(scope: Scope) -> int:
    try:
        return int(Headers(scope=scope).get("content-length", "0"))
    except ValueError:  # no number, or one of thousands of digits
        return 0


class StrictJson(Request):
    """A request whose JSON is read by the letter.

    Python's own reader takes NaN and lone surrogates, and fails on deep nesting and long integers
    with errors that are no JSON errors.
    """

    async def json(self) -> Any:
        return orjson.loads(await self.body())


class JsonRoute(APIRoute):
    """A route that takes its body, if it has one, as `StrictJson`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_strictly(request: Request) -> Response:
            if not _JSON.match(request.headers.get("content-type", "")):
                raise HTTPException(NOT_JSON.status, "send it with Content-Type: application/json")
            return await handle(StrictJson(request.scope, request.receive))

        return read_strictly


def json_answer(content: Any, status: int = 200) -> Response:
    """An answer of plain dicts and lists; moments end in Z."""
    return Response(
        orjson.dumps(content, option=orjson.OPT_UTC_Z), status, media_type="application/json"
    )
