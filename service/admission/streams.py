"""Open event streams, which last as long as they are read."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from service.admission.rejections import ENDING, CountRejection, Rejection
from service.admission.shares import Share
from service.errors import ShuttingDown


class Stream:
    """A response that lasts as long as it is read.

    Attributes:
        ended: whether it must end now.
    """

    def __init__(self) -> None:
        self.ended = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Make `wait` return, now or when it is next called."""
        self._woken.set()

    def end(self) -> None:
        self.ended = True
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until woken, for at most `seconds`; return whether it was."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Streams:
    """The open streams."""

    def __init__(self, most: int, count: CountRejection, share: float = 1.0) -> None:
        """Begin with none open.

        Args:
            share: the share of the limit that one tenant may take.
        """
        self._share = Share(most, share, "streams are open", Rejection.STREAMS, count)
        self._open: dict[Stream, str] = {}
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self, tenant: str) -> Iterator[Stream]:
        """Open a stream for the duration of the block.

        Raises:
            Overloaded: too many are open, or too many of the tenant's.
            ShuttingDown: the service is shutting down.
        """
        if self._ended:
            raise ShuttingDown(ENDING)
        self._share.check(len(self._open), sum(owner == tenant for owner in self._open.values()))
        stream = Stream()
        self._open[stream] = tenant
        try:
            yield stream
        finally:
            del self._open[stream]

    def end_all(self) -> None:
        """End all streams, and refuse new ones."""
        self._ended = True
        for stream in self._open:
            stream.end()
