"""Keeps an embedded index's graphs complete and its files clean, beside its use.

New demonstrations are in no graph: a search scans all of them, 0.7 ms for 10,000, so it finds them
at once. When they are more than a small label space has, they are put into the graphs: another
process does that on a copy of the index (`graph.py`), which then replaces the one that served
meanwhile. When an index is opened, no copy is needed.

A deleted or replaced demonstration is no longer found when the call returns, but the library keeps
it in its files. So the files are rewritten from the current rows, usually within ten seconds: 5 s
after a deletion, together with other deletions until then, and for at most a tenth of the time,
which matters for a large index. With 400 demonstrations it takes 0.1 s, with 30,000 two seconds,
with 100,000 and their graphs 80 s; there, a deletion soon after another one leaves the files within
a quarter of an hour. An index without graphs is also rewritten when it is closed. The card on the
disk records that a rewrite is due, so if the process is killed, the next one does it when it opens
the index: before the index is used, or in the background if it is large.
"""

import asyncio
import contextvars
import logging
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from service.concurrency import loop_time
from service.demonstrations.qdrant_edge.card import new_path
from service.demonstrations.qdrant_edge.disk import sync_files
from service.demonstrations.qdrant_edge.graph import GraphNotBuilt, build_graphs
from service.demonstrations.qdrant_edge.index import STILL_IN_FILES, Index, Missed
from service.demonstrations.qdrant_edge.shard import copy_shard, remove
from service.demonstrations.qdrant_edge.thread import IndexThread
from service.errors import DemonstrationsUnavailable
from service.failures import cause_of

log = logging.getLogger(__name__)

# Seconds that deletions are gathered before the shard is rewritten; the pause after a rewrite, as a
# multiple of its duration; and seconds until the next attempt after a failure.
GATHERED_S = 5.0
_RESTS = 9
_AGAIN_AFTER_S = 60.0

# Between two steps of a rewrite, 3 ms each, others get the interpreter lock and the thread.
_PAUSE_S = 0.005


class Renewal:
    """Replaces an index's shard by a copy, with everything in graphs or without deleted rows.

    Attributes:
        writing: held while the shard's files must not change.
    """

    def __init__(self, index: Index, thread: IndexThread, gathered_s: float) -> None:
        """Begin with an index whose graphs are complete.

        Args:
            gathered_s: seconds that deletions are gathered before the files are rewritten.
        """
        self.writing = asyncio.Lock()
        self._index = index
        self._thread = thread
        self._gathered_s = gathered_s
        self._apart = 0  # rows that people added since the graphs were built
        self._renewing = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._rests_until = 0.0  # in the loop's time

    async def catch_up(self) -> None:
        """Complete the graphs, and clean the files, before the index is used."""
        if not await self._thread.run(self._index.is_large):
            await self._thread.run(self._index.tidy_up)
        else:
            await self._thread.run(self._index.close_shard)
            await _build(self._index.path)
            await self._thread.run(self._index.load_shard)
        self.clean_soon()

    def added(self, rows: int) -> None:
        """Count rows that people added, and start to put them into graphs when they are many."""
        self._apart += rows
        idle = self._renewal is None or self._renewal.done()
        if self._apart > self._index.exact_up_to and idle:
            self._renewal = _beside(self._renew_beside())

    async def renewed(self) -> None:
        """Return when no graph is being built for what people added."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    async def renew(self) -> None:
        """Put everything into graphs.

        Raises:
            DemonstrationsUnavailable: it failed; the index is unchanged.
        """
        async with self._renewing:
            await self._replace_shard()

    def clean_soon(self) -> None:
        """Start to clean the files of deleted rows, if there are any."""
        idle = self._cleaning is None or self._cleaning.done()
        if self._index.card.stale and idle and not self._thread.closed:
            self._cleaning = _beside(self._clean_in_time())

    async def clean(self) -> None:
        """Rewrite the shard, if its files hold deleted rows.

        Raises:
            DemonstrationsUnavailable: it failed; the index is unchanged.
        """
        async with self._renewing:
            if self._index.card.stale:
                await self._replace_shard()

    async def stop(self) -> None:
        """Abandon what is being done."""
        for task in (self._renewal, self._cleaning):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    async def _renew_beside(self) -> None:
        try:
            await self.renew()
        except Exception:
            log.exception("new demonstrations are not in the graphs and slow searches down")

    async def _clean_in_time(self) -> None:
        while self._index.card.stale:
            await asyncio.sleep(max(self._gathered_s, self._rests_until - loop_time()))
            began = loop_time()
            try:
                await self.clean()
                self._rests_until = loop_time() + _RESTS * (loop_time() - began)
            except DemonstrationsUnavailable as error:
                log.warning(STILL_IN_FILES, cause_of(error))
                self._rests_until = loop_time() + _AGAIN_AFTER_S

    async def _replace_shard(self) -> None:
        """Replace the shard by a copy.

        The copy is made row by row if the files hold deleted rows, else file by file. If it is
        large, or its files were copied, it has everything in its graphs.
        """
        index, thread = self._index, self._thread
        large = await thread.run(index.is_large)
        new, missed = new_path(index.folder), Missed()
        try:
            async with self.writing:
                rewriting = index.card.stale
                if not rewriting:
                    await thread.run(index.flush)
                    await asyncio.to_thread(copy_shard, index.path, new)
                index.missed = missed
                if large or not rewriting:
                    self._apart = 0
            if rewriting:
                await self._rewrite(new)
            if large or not rewriting:
                await _build(new)
            async with self.writing:
                await thread.run(index.change_over, new, missed)
        except (DemonstrationsUnavailable, OSError) as error:
            if index.path != new:
                await asyncio.to_thread(remove, new)
            if isinstance(error, OSError):
                raise DemonstrationsUnavailable(f"cannot write to {index.folder}") from error
            raise
        finally:
            index.missed = None

    async def _rewrite(self, new: Path) -> None:
        steps = self._index.rewrite(new)
        while True:
            if not await self._thread.run(_goes_on, steps):
                break
            await asyncio.sleep(_PAUSE_S)
        await asyncio.to_thread(sync_files, new)


async def _build(shard: Path) -> None:
    try:
        await build_graphs(shard)
    except GraphNotBuilt as error:
        raise DemonstrationsUnavailable(f"cannot build the graphs of {shard}: {error}") from error


def _goes_on(steps: Iterator[None]) -> bool:
    """Take one step; return whether there was one."""
    for _ in steps:
        return True
    return False


def _beside(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task in an empty context: otherwise the log would name a request that has ended."""
    return asyncio.create_task(work, context=contextvars.Context())
