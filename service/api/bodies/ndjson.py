"""NDJSON: one JSON value per line, read and written line by line."""

import asyncio
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
from fastapi import Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from service.admission.deadline import renew
from service.api.request_headers import NDJSON, is_head, is_ndjson
from service.api.response_headers import UNBUFFERED

# Bytes of a body that one step of the event loop handles.
STEP_BYTES = 16_384
# Bytes of a response that its client reads within a request's deadline: few kilobytes a second.
_PIECE_BYTES = 65_536

# Skipped in one step: a few compressed kilobytes may hold hundreds of millions of them.
_BLANK_LINES = re.compile(rb"(?:[ \t\r\v\f]*+\n)++")

Emit = Callable[[Any], Awaitable[None]]
"""Sends a line; returns when the next one may be sent."""


class NdjsonRoute(APIRoute):
    """A route for NDJSON bodies; another route at the same path takes all others."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return (match, child_scope) if is_ndjson(scope) else (Match.NONE, {})


async def lines_of(
    chunks: AsyncIterator[bytes], most_bytes: int
) -> AsyncIterator[tuple[int, bytes | None]]:
    """Yield the lines of a body with their numbers from 1, omitting blank ones.

    A line of only a byte order mark is blank. A line longer than `most_bytes` is yielded as None;
    no more than that of it is held in memory.
    """
    number, line, too_long = 1, bytearray(), False
    async for chunk in _in_pieces(chunks):
        at = 0
        while at < len(chunk):
            if not (line or too_long) and (blank := _BLANK_LINES.match(chunk, at)):
                number += chunk.count(b"\n", at, blank.end())
                at = blank.end()
            end = chunk.find(b"\n", at)
            line += chunk[at:] if end < 0 else chunk[at:end]
            if end >= 0:
                if too_long or len(line) > most_bytes:
                    yield number, None
                elif not _is_blank(line):
                    yield number, bytes(line)
                number, line, too_long = number + 1, bytearray(), False
            elif len(line) > most_bytes:
                line, too_long = bytearray(), True
            at = len(chunk) if end < 0 else end + 1
    if too_long:
        yield number, None
    elif not _is_blank(line):
        yield number, bytes(line)


def _is_blank(line: bytearray) -> bool:
    return not line.removeprefix(BOM_UTF8).strip()


async def _in_pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Split chunks so that one step of the event loop handles thousands of lines at most."""
    async for chunk in chunks:
        for start in range(0, len(chunk), STEP_BYTES):
            yield chunk[start : start + STEP_BYTES]
            await asyncio.sleep(0)


class LineStream(Response):
    """Sends lines as they are produced; an error before the first line becomes a normal response.

    For HEAD nothing is produced.
    """

    media_type = NDJSON

    def __init__(
        self, produce: Callable[[Emit], Awaitable[None]], media_type: str = NDJSON
    ) -> None:
        super().__init__(headers=dict(UNBUFFERED), media_type=media_type)
        del self.headers["content-length"]
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def start() -> None:
            nonlocal started
            if not started:
                started = True
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )

        async def emit(content: Any) -> None:
            await start()
            options = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
            body = content if isinstance(content, bytes) else orjson.dumps(content, option=options)
            await send({"type": "http.response.body", "body": body, "more_body": True})

        if not is_head(scope):
            await self._produce(emit)
        await start()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def emit_in_pieces(emit: Emit, content: bytes) -> None:
    """Send lines that are ready, and restart the request's deadline whenever some were read.

    Only for a response that ends.
    """
    for start in range(0, len(content), _PIECE_BYTES):
        await emit(content[start : start + _PIECE_BYTES])
        renew()
