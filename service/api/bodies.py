"""Bodies: bounded and strictly JSON on the way in, JSON on the way out."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.bounded_json import read_json
from service.api.content_codings import unpacked
from service.api.content_types import JSON, check_charset, is_json
from service.api.ndjson import is_ndjson
from service.api.policies import policy_of
from service.api.problem_kinds import BODY_TOO_LARGE, NOT_JSON
from service.api.problems import malformed
from service.errors import ClientLeft


class LimitedBody:
    """Middleware: unpacks a body, and refuses one beyond `most_bytes` as soon as it is read so far.

    By its Content-Length, before the first byte, or else by its bytes as they are counted; as it is
    sent, and as it is unpacked.
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
        in_lines = policy_of(scope).takes_lines and is_ndjson(scope)
        most_bytes = self.most_bytes_of_lines if in_lines else self.most_bytes
        sent = _counted(receive, most_bytes, _declared_bytes(scope))
        await self.app(scope, _counted(unpacked(scope, sent), most_bytes), send)


def _counted(receive: Receive, most_bytes: int, declared: int = 0) -> Receive:
    seen = 0

    async def counting() -> Message:
        nonlocal seen
        if seen == 0 and declared > most_bytes:
            raise _refusal(most_bytes)
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most_bytes:
            raise _refusal(most_bytes)
        return message

    return counting


def _refusal(most_bytes: int) -> HTTPException:
    detail = f"at most {most_bytes} bytes are taken, as they are sent and as they unpack"
    return HTTPException(BODY_TOO_LARGE.status, detail)


def _declared_bytes(scope: Scope) -> int:
    try:
        return int(Headers(scope=scope).get("content-length", "0"))
    except ValueError:  # no number, or one of thousands of digits
        return 0


class StrictJson(Request):
    """A request whose body has been read, once for all who ask, by the letter and within bounds."""

    _value: Any = None

    async def read(self) -> None:
        """Read the body, if there is one.

        Raises:
            RequestValidationError: it is no JSON, or more than is taken; it says where.
            HTTPException: it has too many bytes, or cannot be unpacked.
            ClientLeft: the client broke off.
        """
        try:
            content = await self.body()
        except ClientDisconnect:
            raise ClientLeft("the client has closed its connection") from None
        if not content:
            return
        try:
            self._value = read_json(content, self.state.services.limits)
        except orjson.JSONDecodeError as error:
            raise malformed(error) from None

    async def json(self) -> Any:
        return self._value


class JsonRoute(APIRoute):
    """A route that takes its body, if it has one, as `StrictJson`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_strictly(request: Request) -> Response:
            if not is_json(request.headers.get("content-type", "")):
                raise HTTPException(NOT_JSON.status, f"send it with Content-Type: {JSON}")
            check_charset(request.headers)
            strict = StrictJson(request.scope, request.receive)
            await strict.read()
            await asyncio.sleep(0)  # what a large body holds is yet to be validated
            return await handle(strict)

        return read_strictly


def json_answer(content: Any, status: int = 200) -> Response:
    """An answer of plain dicts and lists; moments end in Z."""
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), status, media_type=JSON)
