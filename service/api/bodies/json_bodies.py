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
from service.api.headers.content_type import JSON, check_charset, is_json
from service.api.problems.answers import malformed
from service.api.problems.kinds import NOT_JSON
from service.errors import ClientLeft


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
