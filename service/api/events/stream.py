"""Server-sent events, as in the WHATWG HTML standard.

Not by sse-starlette: it logs what it sends, which is what users say, and replaces how uvicorn
handles signals as soon as it is imported.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import Response
from starlette.types import Receive, Scope, Send

from service.api.response_headers import UNBUFFERED
from service.errors import ClientLeft, ServiceError

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"

# A client that reads nothing for this time is disconnected.
SLOW_S = 30.0

# A comment, so that proxies do not close an idle connection.
HEARTBEAT = b": still here\n\n"
# How long a client waits before it reconnects, in milliseconds.
RETRY = b"retry: 1000\n\n"


def event(identifier: str, name: str, data: Any) -> bytes:
    """An event; its data is JSON on one line."""
    document = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (identifier.encode(), name.encode(), document)


def head_of_stream() -> Response:
    """The response to HEAD: the head of a stream."""
    response = Response(headers=dict(UNBUFFERED), media_type=EVENT_STREAM)
    del response.headers["content-length"]
    return response


class EventStream(Response):
    """Sends chunks as they are produced.

    An error before the first chunk becomes a normal response. A later one ends the stream: the
    client reconnects with the id of the last event that it received.
    """

    media_type = EVENT_STREAM

    def __init__(self, chunks: AsyncGenerator[bytes, None], slow_s: float = SLOW_S) -> None:
        super().__init__(headers=dict(UNBUFFERED))
        del self.headers["content-length"]
        self._chunks = chunks
        self._slow_s = slow_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream.

        Raises:
            ServiceError: the first chunk cannot be produced.
            ClientLeft: the client does not read.
        """
        async with aclosing(self._chunks) as chunks:
            first = await anext(chunks)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send(send, first)
            try:
                async for chunk in chunks:
                    await self._send(send, chunk)
            except ClientLeft:
                raise
            except ServiceError as error:
                log.warning("a stream of events ends: %s", error)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(self._slow_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            raise ClientLeft("the client does not read the events") from None
