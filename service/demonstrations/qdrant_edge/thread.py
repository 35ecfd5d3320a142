"""The thread of an embedded index."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from service.errors import DemonstrationsUnavailable
from service.failures import Failures

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class IndexThread:
    """Makes all calls of an index, one at a time.

    They hold the interpreter lock, so on more threads they would only wait for each other.

    Attributes:
        closed: whether `run` refuses further calls.
    """

    def __init__(self) -> None:
        self.closed = False
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edge")
        self._failures = Failures(log, "the demonstration index")

    async def begin(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the first call, which opens the index; if it fails, the thread ends."""
        try:
            return await self._call(call, *args, **kwargs)
        except BaseException:
            self._executor.shutdown(wait=False)
            raise

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, and log its failure.

        Raises:
            DemonstrationsUnavailable: it failed, or the index is closed.
        """
        if self.closed:
            raise DemonstrationsUnavailable("the demonstration index is closed")
        try:
            result = await self._call(call, *args, **kwargs)
        except DemonstrationsUnavailable as error:
            if error.__cause__ is not None:
                self._failures.failed(error.__cause__)
            raise
        except OSError as error:  # of the folder: Qdrant's library has no such errors
            self._failures.failed(error)
            raise DemonstrationsUnavailable("the demonstration index does not answer") from error
        self._failures.worked()
        return result

    async def end(self, call: Callable[[], None]) -> None:
        """Make the last call, which closes the index."""
        try:
            await self._call(call)
        finally:
            self._executor.shutdown(wait=False)

    async def _call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, partial(call, *args, **kwargs))
