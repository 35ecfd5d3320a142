"""The `Content-Encoding` header (RFC 9110, section 8.4): bodies decompressed as they are read.

A kilobyte may decompress to a megabyte. A little is decompressed at a time, and only when the body
is read, so that a layer that counts the bytes can refuse them early.
"""

import asyncio
import zlib
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

from service.api.problems.kinds import BAD_REQUEST, NOT_JSON
from service.api.response_headers import ACCEPT_ENCODING

TAKEN = "gzip, deflate, identity"
"""As a value of `Accept-Encoding`."""

# zlib's `wbits` of a format: a gzip member (RFC 1952), or zlib's own (RFC 1950).
_WINDOW_BITS: Mapping[str, int] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
# The most that one step of the event loop consumes and produces. Members may be nearly empty, and a
# step for each would take far longer than decompressing it.
_STEP_BYTES = 16_384
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
        step = self._packed[self._at : self._at + _STEP_BYTES]
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
