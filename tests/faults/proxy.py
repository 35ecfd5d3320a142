"""A way to a server that can be cut off, held up and slowed down."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Proxy:
    """Passes what arrives at a port of its own on to a server, and back; on a thread of its own.

    Attributes:
        delay_s: so much later does everything arrive, either way.
    """

    def __init__(self, connect: Connect) -> None:
        self.delay_s = 0.0
        self.port = 0
        self._connect = connect
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._served: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.mend()

    def cut(self) -> None:
        """Break all connections off, and refuse new ones."""
        self._do(self._close())

    def mend(self) -> None:
        """Take connections, at the same port as before."""
        self._do(self._listen())

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for each in self._served:
            each.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._served.add(task)
        writers = [writer]
        with suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await self._connect()
            writers.append(far_writer)
            await asyncio.gather(
                self._pass_on(reader, far_writer), self._pass_on(far_reader, writer)
            )
        for each in writers:
            each.transport.abort()
        self._served.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            await asyncio.sleep(self.delay_s)
            writer.write(data)
            await writer.drain()
        writer.close()


def to_port(port: int) -> Connect:
    return lambda: asyncio.open_connection("127.0.0.1", port)


def to_socket(path: str) -> Connect:
    return lambda: asyncio.open_unix_connection(path)
