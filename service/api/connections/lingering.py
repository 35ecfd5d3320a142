"""Closing a connection so that the client can read the last response.

A socket that is closed while data arrives is reset, and unread data on the client's side is lost.
"""

import asyncio
from contextlib import suppress
from typing import Any

# For how long, and up to how many bytes, data that the client still sends is discarded.
LINGER_S = 2.0
LINGER_BYTES = 16_777_216


class LingeringTransport(asyncio.Transport):
    """A transport that on close sends what was written and EOF, then waits for the client.

    Meanwhile the protocol passes what arrives to `discard`. A client that does not read what was
    written is disconnected.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, unread_s: float
    ) -> None:
        """Wrap a transport.

        Args:
            unread_s: seconds after the close in which the client must read what was written.
        """
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._unread_s = unread_s
        self._closing = False
        self._discarded = 0
        self._due: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Stop writing, and close when the client does, or after `LINGER_S`."""
        if self.is_closing():
            return
        self._closing = True
        with suppress(OSError):  # the client is gone already
            self._transport.write_eof()
        self._transport.resume_reading()
        self._due = self._loop.call_later(LINGER_S, self.close_now)

    def close_now(self) -> None:
        """Close as soon as what was written is sent, without waiting for the client."""
        self._closing = True
        self._wait_no_longer()
        self._transport.close()
        self._due = self._loop.call_later(self._unread_s, self._transport.abort)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def discard(self, bytes_received: int) -> None:
        """Discard data that arrives after the close."""
        self._discarded += bytes_received
        if self._discarded > LINGER_BYTES:
            self.close_now()

    def lost(self) -> None:
        """Note that the connection is lost."""
        self._closing = True
        self._wait_no_longer()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def _wait_no_longer(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
