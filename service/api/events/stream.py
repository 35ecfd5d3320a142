"""Server-sent events, as in the WHATWG HTML standard."""

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

# A reader that takes nothing for so long is given up.
SLOW_S = 30.0

# A comment: keeps proxies from closing a connection on which nothing is said.
HEARTBEAT = b": still here\n\n"
# How long a client waits until it comes back, in milliseconds.
RETRY = b"retry: 1000\n\n"


def event(identifier: str, name: str, data: Any) -> bytes:
    """An event; its data is JSON on one line."""
    document = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (identifier.encode(), name.encode(), document)


def head_of_stream() -> Response:
    """What HEAD is answered where a stream would begin: its head."""
    answer = Response(headers=dict(UNBUFFERED), media_type=EVENT_STREAM)
    del answer.headers["content-length"]
    return answer


class EventStream(Response):
    """Sends chunks as they come.

    An error before the first chunk is answered as of any request. After it, all that can be done
    is to end: the client comes back, and says which event it had last.
    """

    media_type = EVENT_STREAM

    def __init__(self, chunks: AsyncGenerator[bytes, None], slow_s: float = SLOW_S) -> None:
        super().__init__(headers=dict(UNBUFFERED))
        del self.headers["content-length"]
        self._chunks = chunks
        self._slow_s = slow_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all.

        Raises:
            ServiceError: of the first chunk.
            ClientLeft: the client takes nothing.
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
            raise ClientLeft("the client does not read what it is sent") from None
