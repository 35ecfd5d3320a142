"""JSON bodies: strict and bounded in requests, plain in responses."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.api.bodies.bounded_json import read_json
from service.api.problems.answers import malformed
from service.api.problems.kinds import NOT_JSON
from service.api.request_headers import JSON, check_charset, is_json
from service.errors import ClientLeft


class StrictJson(Request):
    """A request whose body is parsed once, strictly and within bounds."""

    _value: Any = None

    async def read(self) -> None:
        """Read the body, if there is one.

        Raises:
            RequestValidationError: it is not JSON, or holds too much; the error says where.
            HTTPException: it has too many bytes, or cannot be decompressed.
            ClientLeft: the client disconnected.
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
    """A route that reads its body, if it has one, as `StrictJson`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_strictly(request: Request) -> Response:
            if not is_json(request.headers.get("content-type", "")):
                raise HTTPException(NOT_JSON.status, f"send the body with Content-Type: {JSON}")
            check_charset(request.headers)
            strict = StrictJson(request.scope, request.receive)
            await strict.read()
            await asyncio.sleep(0)  # validating a large body takes another while
            return await handle(strict)

        return read_strictly


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON response from plain dicts and lists; timestamps end in Z."""
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z), status, media_type=JSON)
