"""Middleware that refuses what is too large: a query, a header, a body encoded or decoded.

Bodies are decompressed as they are read (`Content-Encoding`, RFC 9110, section 8.4). A kilobyte may
decompress to a megabyte. A little is decompressed at a time, and only when the body is read, so
that the bytes are counted, and the body refused, early.
"""

import asyncio
import zlib
from collections.abc import Mapping
from itertools import chain

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.bodies.ndjson import STEP_BYTES
from service.api.head_limits import LONGEST_HEADER, LONGEST_QUERY, MOST_HEADERS, MOST_PARAMETERS
from service.api.policies import policy_of
from service.api.problems.answers import problem_response
from service.api.problems.kinds import BAD_REQUEST, BODY_TOO_LARGE, HEAD_TOO_LARGE, NOT_JSON, Kind
from service.api.request_headers import is_ndjson
from service.api.response_headers import ACCEPT_ENCODING


class BoundedHeads:
    """Refuses queries and headers that are too many or too long.

    Several layers go through all of them: thousands of parameters take seconds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        excess = _excess(scope) if scope["type"] == "http" else None
        if excess is None:
            await self.app(scope, receive, send)
            return
        response = problem_response(scope["state"]["request_id"], *excess)
        await response(scope, receive, send)


def _excess(scope: Scope) -> tuple[Kind, str] | None:
    """The problem and its detail; None where no limit is exceeded."""
    query, headers = scope["query_string"], scope["headers"]
    if query.count(b"&") >= MOST_PARAMETERS:
        return BAD_REQUEST, f"at most {MOST_PARAMETERS} query parameters are allowed"
    if len(query) > LONGEST_QUERY:
        return BAD_REQUEST, f"at most {LONGEST_QUERY} bytes are allowed in a query"
    if len(headers) > MOST_HEADERS:
        return HEAD_TOO_LARGE, f"at most {MOST_HEADERS} headers are allowed"
    if max(map(len, chain.from_iterable(headers)), default=0) > LONGEST_HEADER:
        return HEAD_TOO_LARGE, f"at most {LONGEST_HEADER} bytes are allowed in a header"
    return None


class LimitedBody:
    """Decompresses a body, and refuses one of more than `most_bytes`.

    By its Content-Length before the first byte, or else by its bytes as they are read, both encoded
    and decoded.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, most_bytes_of_lines: int) -> None:
        """Wrap an application.

        Args:
            most_bytes: the limit on a body.
            most_bytes_of_lines: the limit on an NDJSON body, which is read line by line.
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
        encoded = _counted(receive, most_bytes, _declared_bytes(scope))
        await self.app(scope, _counted(unpacked(scope, encoded), most_bytes), send)


def _counted(receive: Receive, most_bytes: int, declared: int = 0) -> Receive:
    total = 0

    async def counting() -> Message:
        nonlocal total
        if total == 0 and declared > most_bytes:
            raise _refusal(most_bytes)
        message = await receive()
        total += len(message.get("body", b""))
        if total > most_bytes:
            raise _refusal(most_bytes)
        return message

    return counting


def _refusal(most_bytes: int) -> HTTPException:
    detail = f"at most {most_bytes} bytes are allowed, encoded and decoded"
    return HTTPException(BODY_TOO_LARGE.status, detail)


def _declared_bytes(scope: Scope) -> int:
    try:
        return int(Headers(scope=scope).get("content-length", "0"))
    except ValueError:  # not a number, or one of thousands of digits
        return 0


TAKEN = "gzip, deflate, identity"
"""As a value of `Accept-Encoding`."""

# zlib's `wbits` of a format: a gzip member (RFC 1952), or zlib's own (RFC 1950).
_WINDOW_BITS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
# The most that one step of the event loop consumes, besides `STEP_BYTES`, and produces. Members may
# be nearly empty, and a step for each would take far longer than decompressing it.
_STEP_MEMBERS = 256
_UNPACKED_BYTES = 65_536


def unpacked(scope: Scope, receive: Receive) -> Receive:
    """Wrap `receive` so that it returns the decoded body.

    The errors are raised when the body is read.

    Raises:
        HTTPException: 415, the encoding is not supported; 400, the body is not encoded as declared,
            or is truncated.
    """
    declared = ",".join(Headers(scope=scope).getlist("content-encoding")).lower().split(",")
    codings = [coding for part in declared if (coding := part.strip()) not in ("", "identity")]
    if not codings:
        return receive
    if len(codings) == 1 and codings[0] in _WINDOW_BITS:
        return _Unpacking(codings[0], receive)

    async def refusing() -> Message:
        detail = f"Content-Encoding: must be one of {TAKEN}, once"
        raise HTTPException(NOT_JSON.status, detail, {ACCEPT_ENCODING: TAKEN})

    return refusing


class _Unpacking:
    """A `receive` that decompresses what another one returns."""

    def __init__(self, coding: str, receive: Receive) -> None:
        self._coding = coding
        self._receive = receive
        self._packed = b""  # the last message's body
        self._at = 0  # how much of it is decompressed
        self._awaits_more = True
        self._unpacker: zlib._Decompress | None = None  # None before and after a member
        self._members = 0  # how many are complete
        self._over = False

    async def __call__(self) -> Message:
        while not self._over:
            if piece := self._unpack():
                await asyncio.sleep(0)
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._at < len(self._packed):
                await asyncio.sleep(0)  # many members may be empty
            elif self._awaits_more:
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._packed, self._at = message.get("body", b""), 0
                self._awaits_more = message.get("more_body", False)
            elif self._unpacker is not None:
                raise self._broken("is truncated")
            else:
                self._over = True
                return {"type": "http.request", "body": b"", "more_body": False}
        return await self._receive()

    def _unpack(self) -> bytes:
        """The next piece; b"" if members were empty, or more must be received."""
        pieces: list[bytes] = []
        room = _UNPACKED_BYTES
        for _ in range(_STEP_MEMBERS):
            if room <= 0 or self._at >= len(self._packed):
                break
            try:
                piece = self._unpack_of_member(room)
            except HTTPException:
                if any(pieces):
                    break  # complete pieces come first; the next call fails the same way
                raise
            pieces.append(piece)
            room -= len(piece)
        return b"".join(pieces)

    def _unpack_of_member(self, most: int) -> bytes:
        step = self._packed[self._at : self._at + STEP_BYTES]
        if self._unpacker is None:
            if self._members:  # padding, as tapes and `tar` leave it
                self._at += len(step) - len(step.lstrip(b"\0"))
                step = step.lstrip(b"\0")
            if not step:
                return b""
            if self._members and self._coding == "deflate":
                raise self._broken("has data after the end of the compressed data")
            self._unpacker = zlib.decompressobj(_WINDOW_BITS[self._coding])
        try:
            piece = self._unpacker.decompress(step, most)
        except zlib.error as error:
            after = f" after {self._members} members" if self._members else ""
            raise self._broken(f"cannot be decompressed{after} ({error})") from None
        remainder = self._unpacker.unconsumed_tail
        if self._unpacker.eof:
            remainder = self._unpacker.unused_data
            self._unpacker = None
            self._members += 1
        self._at += len(step) - len(remainder)
        return piece

    def _broken(self, how: str) -> HTTPException:
        detail = f"Content-Encoding: the body {how}; it is declared as {self._coding}"
        return HTTPException(BAD_REQUEST.status, detail)
