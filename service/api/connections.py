"""Connections, of which there are only so many, and which must send and read something.

A server that accepts every connection has its memory filled by clients that only connect.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.admission.rejections import CountRejection, Rejection
from service.api.hosts import host_of_target
from service.api.problems import PROBLEM_JSON, RETRY_AFTER_S, problem_of
from service.errors import Overloaded

# A request's head is sent by then, from the connection's start or from the head's first byte.
HEAD_S = 10.0
# A client that is gone, or reads nothing, for so long loses its connection (tcp(7)).
UNREAD_S = 60.0
# Time to read the refusal: what arrives after the socket was closed would break it off.
_LINGER_S = 1.0


class BoundedConnection(HttpToolsProtocol):
    """A connection that is refused where there are as many as there may be."""

    def __init__(
        self,
        *arguments: Any,
        most: int,
        head_s: float,
        unread_s: float,
        reject: CountRejection,
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
        self._most = most
        self._head_s = head_s
        self._unread_s = unread_s
        self._reject = reject
        self._refused = False
        self._head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) < self._most:
            super().connection_made(transport)
            self._expect_head()
            self._expect_reading()
            return
        self._refused = True
        self.transport = transport
        self._reject(Rejection.CONNECTIONS)
        transport.write(_REFUSAL)
        if transport.can_write_eof():
            transport.write_eof()
        self.loop.call_later(_LINGER_S, transport.close)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._head_came()
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_came()
        host_of_target(self.url, self.headers)
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_due = self.loop.call_later(self._head_s, self.transport.close)

    def _expect_reading(self) -> None:
        # Closing alone would wait until what was written is read.
        connection = self.transport.get_extra_info("socket")
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            milliseconds = round(self._unread_s * 1000)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def _head_came(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def bounded(
    most: int, reject: CountRejection, head_s: float = HEAD_S, unread_s: float = UNREAD_S
) -> Callable[..., BoundedConnection]:
    """What uvicorn makes for each connection.

    Args:
        most: connections that may be open.
        head_s: seconds in which a request's head is to be sent.
        unread_s: seconds in which a client reads something of what it is sent.
    """
    return partial(BoundedConnection, most=most, head_s=head_s, unread_s=unread_s, reject=reject)


def _refusal() -> bytes:
    body = orjson.dumps(problem_of(Overloaded("too many connections are open")))
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        f"content-type: {PROBLEM_JSON}\r\n"
        f"content-length: {len(body)}\r\n"
        "x-content-type-options: nosniff\r\n"
        f"retry-after: {RETRY_AFTER_S}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


_REFUSAL = _refusal()
