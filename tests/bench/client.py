"""A load client for HTTP/1.1: connections are kept, answers are taken as they come.

It shares the cores with what it measures, so it does only what load needs: no redirects, no
chunked answers, no decoding.
"""

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came.

    Attributes:
        status: 0 where the connection broke before the answer was complete.
        head: status line and headers.
    """

    status: int
    head: bytes
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def header(self, name: str) -> str | None:
        """A header's value, the first one where there are several."""
        for line in self.head.split(b"\r\n")[1:]:
            header, _, value = line.partition(b":")
            if header.strip().lower() == name.lower().encode():
                return value.strip().decode("latin-1")
        return None


BROKEN = Answer(0, b"", b"")


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """A whole request, ready to be sent as often as one likes."""
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
    if body:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


class Client:
    """Sends requests to one address, each on a connection that has nothing else under way."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[_Connection] = []

    async def send(self, whole_request: bytes) -> Answer:
        """The answer; `BROKEN` where the connection is refused or lost."""
        connection = self._kept()
        if connection is None:
            try:
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, *self._address
                )
            except OSError:
                return BROKEN
        answer = await connection.ask(whole_request)
        if not connection.closed:
            self._idle.append(connection)
        return answer

    def _kept(self) -> "_Connection | None":
        # The one used last: servers close those that have been idle for some seconds.
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._idle:
            connection.close()


class _Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._waiting: asyncio.Future[Answer] | None = None

    def ask(self, whole_request: bytes) -> asyncio.Future[Answer]:
        self._waiting = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()
        self._body_at = -1  # until the head is complete
        self._length = 0
        self._transport.write(whole_request)
        return self._waiting

    def close(self) -> None:
        self.closed = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._body_at < 0:
            end = self._buffer.find(_END_OF_HEAD)
            if end < 0:
                return
            self._body_at = end + len(_END_OF_HEAD)
            self._length = _content_length(bytes(self._buffer[:end]))
        if len(self._buffer) >= self._body_at + self._length:
            head = bytes(self._buffer[: self._body_at - len(_END_OF_HEAD)])
            body = bytes(self._buffer[self._body_at :])
            if b"\r\nconnection: close" in head.lower():
                self.close()
            self._finish(Answer(int(head[9:12]), head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._finish(BROKEN)

    def _finish(self, answer: Answer) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip() == b"content-length":
            return int(value)
    raise ValueError(f"an answer without content-length: {head!r}")
