"""Open event streams, which last as long as they are read."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from service.admission.rejections import ENDING, CountRejection, Rejection
from service.admission.shares import Share
from service.errors import ShuttingDown


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

    def __init__(self, most: int, count: CountRejection, share: float = 1.0) -> None:
        """Open none yet.

        Args:
            share: how much of the room one tenant may take.
        """
        self._share = Share(most, share, "streams are open", Rejection.STREAMS, count)
        self._open: dict[Stream, str] = {}
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self, tenant: str) -> Iterator[Stream]:
        """A stream for the time of the block.

        Raises:
            Overloaded: as many as may be are open, or as many of one tenant's.
            ShuttingDown: the service is about to end.
        """
        if self._ended:
            raise ShuttingDown(ENDING)
        self._share.check(len(self._open), sum(each == tenant for each in self._open.values()))
        stream = Stream()
        self._open[stream] = tenant
        try:
            yield stream
        finally:
            del self._open[stream]

    def end_all(self) -> None:
        """End all of them, and open none any more."""
        self._ended = True
        for stream in self._open:
            stream.end()
