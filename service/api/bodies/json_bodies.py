"""JSON bodies: strict and bounded in requests, plain in responses.

A megabyte can hold half a million lists, and each unknown member is an error of its own: the cost
of a body depends on its values, not its bytes. So that no body costs more than a few milliseconds,
they are counted before the body is parsed, and its shape is checked before it is validated.
"""

import asyncio
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.api.problems.answers import invalid, malformed
from service.api.problems.kinds import NOT_JSON
from service.api.request_headers import JSON, check_charset, is_json
from service.errors import ClientLeft
from service.settings import Limits

# An utterance or demonstration has at most six values. The margin lets the checks of
# `service.api.limits`, which name place and number, refuse bodies slightly too large.
_VALUES_OF_EACH = 8
_VALUES_BESIDE = 1000

# No schema has a tenth of the members or half the depth.
_MOST_MEMBERS = 64
_DEEPEST = 12
_LONGEST_NAME = 200

# A character that precedes a value, or a whole string, which is skipped. An unterminated string
# extends to the end of the body, so that nothing is scanned twice.
_TOKEN = re.compile(rb'[,\[{]|("[^"\\]*+(?:\\.[^"\\]*+)*+"?)', re.DOTALL)


def read_json(content: bytes, limits: Limits) -> Any:
    """Parse a body, or a line of one.

    Python's own parser accepts NaN and lone surrogates, and fails on deep nesting and long integers
    with errors other than JSON errors; this one is strict. A byte order mark is ignored, as
    RFC 8259, section 8.1, allows.

    Raises:
        orjson.JSONDecodeError: the content is not JSON.
        RequestValidationError: it has more values, members or levels than any request needs; the
            error says where.
    """
    if (encoding := json.detect_encoding(content)).startswith(("utf-16", "utf-32")):
        raise orjson.JSONDecodeError(
            f"is encoded in {encoding[:6].upper()}; send JSON in UTF-8", "", 0
        )
    content = content.removeprefix(BOM_UTF8)
    most = _VALUES_OF_EACH * (limits.batch_utterances + limits.batch_dialogues) + _VALUES_BESIDE
    if _has_more_values(content, most):
        raise invalid(detail=f"contains more than {most} values, which is the limit")
    value = orjson.loads(content)
    _check_shape(value, ())
    return value


def _has_more_values(content: bytes, most: int) -> bool:
    """Whether there are more values: each but the first follows a comma or a bracket."""
    if sum(map(content.count, (b",", b"[", b"{"))) < most:  # an upper bound: strings count too
        return False
    count = 1
    for token in _TOKEN.finditer(content):
        count += token.lastindex is None
        if count > most:
            return True
    return False


def _check_shape(value: Any, where: tuple[str | int, ...]) -> None:
    if len(where) >= _DEEPEST:
        raise invalid(*where, detail=f"is nested deeper than {_DEEPEST} levels")
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, list | dict):
                _check_shape(item, (*where, index))
    elif isinstance(value, dict):
        if len(value) > _MOST_MEMBERS:
            detail = f"has {len(value)} members, at most {_MOST_MEMBERS} are allowed"
            raise invalid(*where, detail=detail)
        for name, member in value.items():
            if len(name) > _LONGEST_NAME:
                detail = (
                    f"has a member whose name has {len(name)} characters; at most "
                    f"{_LONGEST_NAME} are allowed"
                )
                raise invalid(*where, detail=detail)
            if isinstance(member, list | dict):
                _check_shape(member, (*where, name))


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
