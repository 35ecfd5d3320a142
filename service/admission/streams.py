"""Answers that go on for as long as they are read."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from service.admission.rejections import ENDING, CountRejection, Rejection
from service.errors import Overloaded, ShuttingDown


class Stream:
    """An answer that goes on for as long as it is read.

    Attributes:
        ended: it is to end now.
    """

    def __init__(self) -> None:
        self.ended = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have `wait` return, now or when it is next called."""
        self._woken.set()

    def end(self) -> None:
        self.ended = True
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Whether it was woken within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Streams:
    """The streams that are open."""

    def __init__(self, most: int, count: CountRejection) -> None:
        self._most = most
        self._count = count
        self._open: set[Stream] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """A stream for the time of the block.

        Raises:
            Overloaded: as many as may be are open.
            ShuttingDown: the service is about to end.
        """
        if self._ended:
            raise ShuttingDown(ENDING)
        if len(self._open) >= self._most:
            self._count(Rejection.STREAMS)
            raise Overloaded(f"{self._most} streams are open, as many as may be")
        stream = Stream()
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)

    def end_all(self) -> None:
        """End all of them, and open none any more."""
        self._ended = True
        for stream in self._open:
            stream.end()
