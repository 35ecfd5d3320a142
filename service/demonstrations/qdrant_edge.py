"""The embedded demonstration store: Qdrant Edge in this process, data in one folder.

A small label space is searched exactly, and a large one through a graph (HNSW), in time logarithmic
in the number of demonstrations; a graph search occasionally misses a near one. New demonstrations
are in no graph: a search scans all of them, 0.7 ms for 10,000, so it finds them at once. When they
are more than a small label space has, they are put into the graphs: another process does that on a
copy of the index (`graph.py`), which then replaces the one that served meanwhile. When an index is
opened, no copy is needed.

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
import contextlib
import contextvars
import fcntl
import logging
import os
import uuid
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import qdrant_edge as qdrant

from service.concurrency import loop_time
from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vector, Vectors
from service.demonstrations.filters import (
    Condition,
    Filter,
    corrections,
    examples,
    other_editions,
    seen,
    within,
)
from service.demonstrations.graph import GraphNotBuilt, build_graphs
from service.demonstrations.indexing import CANDIDATES_OF_A_SEARCH, EXACT_UP_TO
from service.demonstrations.points import (
    PageRequest,
    Row,
    correction_of,
    found_of,
    looked_up,
    match_of,
    point_id,
    points_of,
    query_vector,
    row_of_correction,
    texts_of,
    writes,
)
from service.demonstrations.shard import (
    FLUSH_AFTER,
    Card,
    call_qdrant,
    check_room,
    copy_shard,
    new_path,
    open_shard,
    read_card,
    remove,
    remove_others,
    rewrite,
    sync,
    sync_files,
    write_card,
)
from service.demonstrations.store import Correction, CorrectionMatch, Match, Page
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable
from service.failures import Failures, cause_of

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Seconds that deletions are gathered before the shard is rewritten; the pause after a rewrite, as a
# multiple of its duration; and seconds until the next attempt after a failure.
GATHERED_S = 5.0
_RESTS = 9
_AGAIN_AFTER_S = 60.0

# Between two steps of a rewrite, 3 ms each, others get the interpreter lock and the thread.
_PAUSE_S = 0.005

_STILL_IN_FILES = "deleted demonstrations are still in the index's files: %s"

_EXACT = qdrant.SearchParams(exact=True)

# Graphs hold one byte a number. The best 4 k are rescored by their full vectors.
_BY_GRAPH = qdrant.SearchParams(
    hnsw_ef=CANDIDATES_OF_A_SEARCH,
    quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=4.0),
)


async def open_edge(
    folder: Path,
    encoder_identity: str,
    exact_up_to: int = EXACT_UP_TO,
    *,
    gathered_s: float = GATHERED_S,
) -> "EdgeStore":
    """Open the index in a folder; create index and folder if they do not exist.

    For a large index, demonstrations that are in no graph are put into graphs first.

    Args:
        exact_up_to: the most demonstrations of a label space without a graph, and the most new
            demonstrations outside of the graphs.
        gathered_s: seconds that deletions are gathered before the files are rewritten.

    Raises:
        IndexMismatch: another encoder built the index, or its `index.json` is missing or broken.
        DemonstrationsUnavailable: another process has it open, or it cannot be read or created.
    """
    # One thread makes all calls: they hold the interpreter lock, so more threads would only wait.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edge")
    try:
        loop = asyncio.get_running_loop()
        store = await loop.run_in_executor(
            thread, _open, folder, encoder_identity, exact_up_to, gathered_s, thread
        )
    except BaseException:
        thread.shutdown(wait=False)
        raise
    try:
        await store._catch_up()
    except BaseException:
        await store.close()
        raise
    return store


@dataclass(slots=True)
class _Missed:
    """The writes since a replacement of this shard was begun.

    Attributes:
        deletions: whether the replacement's files may hold rows that these delete or replace.
    """

    operations: list[qdrant.UpdateOperation] = field(default_factory=list)
    deletions: bool = False


class EdgeStore:
    """A `DemonstrationStore` in a folder that this process alone may use; see `open_edge`."""

    def __init__(
        self,
        folder: Path,
        card: Card,
        shard: qdrant.EdgeShard,
        exact_up_to: int,
        gathered_s: float,
        lock: int,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._folder = folder
        self._card = card
        self._shard = shard
        self._exact_up_to = exact_up_to
        self._gathered_s = gathered_s
        self._lock = lock
        self._thread = thread
        self._closed = False
        self._unflushed = 0  # rows written since the last flush
        self._apart = 0  # rows that people added since the graphs were built
        self._writing = asyncio.Lock()  # held while the shard's files must not change
        self._renewing = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._missed: _Missed | None = None  # by the replacement of this shard
        self._cleaning: asyncio.Task[None] | None = None
        self._rests_until = 0.0  # in the loop's time
        self._failures = Failures(log, "the demonstration index")

    async def add(
        self,
        demonstrations: Sequence[Demonstration],
        vectors: Vectors,
        edition: str | None = None,
        tenant: str | None = None,
    ) -> None:
        await self._add(writes(demonstrations, vectors, edition, tenant))
        if edition is None:
            self._added(len(demonstrations))
        if len(demonstrations) > self._exact_up_to:
            await self._renewed()

    async def add_correction(self, correction: Correction, vector: Vector, tenant: str) -> None:
        await self._add([[row_of_correction(correction, vector, tenant)]])
        self._added(1)

    async def _add(self, portions: Iterable[Sequence[Row]]) -> None:
        # One call on the thread per batch, so that queries run in between.
        for rows in portions:
            async with self._writing:
                await self._run(self._write, rows)
        self._clean_soon()

    def _added(self, rows: int) -> None:
        """Count added rows, and start to put them into graphs when they are many."""
        self._apart += rows
        if self._apart > self._exact_up_to and (self._renewal is None or self._renewal.done()):
            self._renewal = _beside(self._renew_beside())

    async def nearest(
        self, vector: Vector, label_space: str, k: int, tenant: str | None = None
    ) -> list[Match]:
        query = qdrant.Query.Nearest(query_vector(vector, k))
        points = await self._run(
            self._nearest, query, label_space, k, examples(label_space, tenant)
        )
        return [match_of(point.payload, point.score) for point in points]

    async def corrections(
        self, vector: Vector, label_space: str, k: int, tenant: str
    ) -> list[CorrectionMatch]:
        query = qdrant.Query.Nearest(query_vector(vector, k))
        points = await self._run(
            self._nearest, query, label_space, k, corrections(label_space, tenant)
        )
        return [correction_of(point.payload, point.score) for point in points]

    async def get(self, demonstration_id: str, tenant: str | None = None) -> Demonstration:
        records = await self._run(self._retrieve, points_of(demonstration_id, tenant))
        return found_of([record.payload for record in records], demonstration_id)

    async def texts(
        self, demonstration_ids: Collection[str], tenant: str | None = None
    ) -> dict[str, str]:
        texts: dict[str, str] = {}
        for points in looked_up(demonstration_ids, tenant):
            records = await self._run(self._retrieve, points)
            texts |= texts_of([record.payload for record in records])
        return texts

    async def delete(self, demonstration_id: str, tenant: str | None = None) -> None:
        async with self._writing:
            existed = await self._run(self._delete, point_id(demonstration_id, tenant))
        self._clean_soon()
        if not existed:
            raise DemonstrationNotFound(f"there is no demonstration {demonstration_id!r}")

    async def count(self, label_space: str | None = None, *, tenant: str | None = None) -> int:
        return await self._run(self._count, within(label_space, tenant))

    async def count_corrections(self, label_space: str, tenant: str) -> int:
        return await self._run(self._count, corrections(label_space, tenant))

    async def edition(self) -> str | None:
        return self._card.edition

    async def finish_edition(self, edition: str) -> None:
        async with self._writing:
            await self._run(self._drop_other_editions, edition)
        self._clean_soon()
        if await self._run(self._is_large):
            await self._renew()
        await self._run(self._note_edition, edition)

    async def ping(self) -> None:
        await self._run(self._is_large)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for task in (self._renewal, self._cleaning):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._shut)
        finally:
            self._thread.shutdown(wait=False)

    async def list(
        self,
        label_space: str | None = None,
        limit: int = 100,
        after: str | None = None,
        tenant: str | None = None,
    ) -> Page:
        request = PageRequest(limit, after)
        scroll = qdrant.ScrollRequest(
            offset=request.scroll_offset,
            limit=request.scroll_limit,
            filter=qdrant_filter(seen(label_space, tenant)),
            with_payload=True,
            with_vector=False,
        )
        records = await self._run(self._scroll, scroll)
        return request.page([record.payload for record in records])

    async def _catch_up(self) -> None:
        """Complete the graphs, and clean the files, before the index is used."""
        if not await self._run(self._is_large):
            await self._run(self._tidy_up)
        else:
            await self._run(self._close_shard)
            await _build(self._path)
            await self._run(self._load, self._path)
        self._clean_soon()

    async def _renew_beside(self) -> None:
        try:
            await self._renew()
        except Exception:
            log.exception("new demonstrations are not in the graphs and slow searches down")

    async def _renewed(self) -> None:
        """Return when no graph is being built."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    def _clean_soon(self) -> None:
        """Start to clean the files of deleted rows, if there are any."""
        idle = self._cleaning is None or self._cleaning.done()
        if self._card.stale and idle and not self._closed:
            self._cleaning = _beside(self._clean_in_time())

    async def _clean_in_time(self) -> None:
        while self._card.stale:
            await asyncio.sleep(max(self._gathered_s, self._rests_until - loop_time()))
            began = loop_time()
            try:
                await self._clean()
                self._rests_until = loop_time() + _RESTS * (loop_time() - began)
            except DemonstrationsUnavailable as error:
                log.warning(_STILL_IN_FILES, cause_of(error))
                self._rests_until = loop_time() + _AGAIN_AFTER_S

    async def _clean(self) -> None:
        """Rewrite the shard, if its files hold deleted rows."""
        async with self._renewing:
            if self._card.stale:
                await self._replace_shard()

    async def _renew(self) -> None:
        """Put everything into graphs."""
        async with self._renewing:
            await self._replace_shard()

    async def _replace_shard(self) -> None:
        """Replace this shard by a copy.

        The copy is made row by row if the files hold deleted rows, else file by file. If it is
        large, or its files were copied, it has everything in its graphs.
        """
        large = await self._run(self._is_large)
        new, missed = new_path(self._folder), _Missed()
        try:
            async with self._writing:
                rewriting = self._card.stale
                if not rewriting:
                    await self._run(self._flush)
                    await asyncio.to_thread(copy_shard, self._path, new)
                self._missed = missed
                if large or not rewriting:
                    self._apart = 0
            if rewriting:
                await self._rewrite(new)
            if large or not rewriting:
                await _build(new)
            async with self._writing:
                await self._run(self._change_over, new, missed)
        except (DemonstrationsUnavailable, OSError) as error:
            if self._path != new:
                await asyncio.to_thread(remove, new)
            if isinstance(error, OSError):
                raise DemonstrationsUnavailable(f"cannot write to {self._folder}") from error
            raise
        finally:
            self._missed = None

    async def _rewrite(self, new: Path) -> None:
        steps = rewrite(self._shard, new, self._exact_up_to)
        while True:
            if not await self._run(_goes_on, steps):
                break
            await asyncio.sleep(_PAUSE_S)
        await asyncio.to_thread(sync_files, new)

    @property
    def _path(self) -> Path:
        return self._folder / self._card.shard

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise DemonstrationsUnavailable("the demonstration index is closed")
        loop = asyncio.get_running_loop()
        try:
            result = await loop.run_in_executor(self._thread, partial(call, *args, **kwargs))
        except DemonstrationsUnavailable as error:
            if error.__cause__ is not None:
                self._failures.failed(error.__cause__)
            raise
        except OSError as error:  # of the folder: Qdrant's library has no such errors
            self._failures.failed(error)
            raise DemonstrationsUnavailable("the demonstration index does not answer") from error
        self._failures.worked()
        return result

    # The methods below run on the thread; `self._shard` may change between two calls.

    def _is_large(self) -> bool:
        return bool(call_qdrant(self._shard.info).points_count > self._exact_up_to)

    def _count(self, among: Filter, *, exact: bool = True) -> int:
        request = qdrant.CountRequest(exact=exact, filter=qdrant_filter(among))
        count: int = call_qdrant(self._shard.count, request)
        return count

    def _scroll(self, request: qdrant.ScrollRequest) -> Sequence[qdrant.Record]:
        records: Sequence[qdrant.Record] = call_qdrant(self._shard.scroll, request)[0]
        return records

    def _nearest(
        self, query: qdrant.Query, label_space: str, k: int, among: Filter
    ) -> Sequence[qdrant.ScoredPoint]:
        # From the payload index: 0.02 ms whatever the number.
        size = self._count(within(label_space), exact=False)
        request = qdrant.QueryRequest(
            limit=k,
            query=query,
            filter=qdrant_filter(among),
            params=_EXACT if size <= self._exact_up_to else _BY_GRAPH,
            with_payload=True,
        )
        points: Sequence[qdrant.ScoredPoint] = call_qdrant(self._shard.query, request)
        return points

    def _write(self, rows: Sequence[Row]) -> None:
        written = {row.point_id: row.payload for row in rows}
        replaces = any(
            record.payload != written[uuid.UUID(str(record.id))]
            for record in self._retrieve([*written])
        )
        points = [qdrant.Point(row.point_id, row.vector, row.payload) for row in rows]
        self._update(qdrant.UpdateOperation.upsert_points(points), deletes=replaces)
        self._unflushed += len(rows)
        if self._unflushed >= FLUSH_AFTER:
            self._flush()

    def _retrieve(self, points: Sequence[uuid.UUID]) -> Sequence[qdrant.Record]:
        records: Sequence[qdrant.Record] = call_qdrant(
            self._shard.retrieve, [*points], with_payload=True, with_vector=False
        )
        return records

    def _delete(self, point: uuid.UUID) -> bool:
        if not self._retrieve([point]):
            return False
        self._update(qdrant.UpdateOperation.delete_points([point]), deletes=True)
        return True

    def _drop_other_editions(self, edition: str) -> None:
        others = other_editions(edition)
        operation = qdrant.UpdateOperation.delete_points_by_filter(qdrant_filter(others))
        self._update(operation, deletes=self._count(others) > 0)

    def _note_edition(self, edition: str) -> None:
        self._note(replace(self._card, edition=edition))

    def _note(self, card: Card) -> None:
        write_card(self._folder, card)
        self._card = card

    def _change_over(self, copy: Path, missed: _Missed) -> None:
        old, old_path = self._shard, self._path
        check_room(self._folder)
        new = call_qdrant(qdrant.EdgeShard.load, str(copy))
        try:
            for operation in missed.operations:
                call_qdrant(new.update, operation)
            call_qdrant(new.flush)
            # Copied files hold no earlier deletions, or they would have been rewritten.
            self._note(replace(self._card, shard=copy.name, stale=missed.deletions))
        except BaseException:
            call_qdrant(new.close)
            raise
        self._shard = new
        self._unflushed = 0
        call_qdrant(old.close)
        remove(old_path)

    def _tidy_up(self) -> None:
        """Clean the files of deleted rows, and release their disk space."""
        if self._card.stale:
            self._rewrite_now()
        call_qdrant(self._shard.optimize)

    def _rewrite_now(self) -> None:
        """Rewrite the shard in one go; on failure it stays as it is."""
        new = new_path(self._folder)
        try:
            for _ in rewrite(self._shard, new, self._exact_up_to):
                pass
            sync_files(new)
            self._change_over(new, _Missed())
        except (DemonstrationsUnavailable, OSError) as error:
            log.warning(_STILL_IN_FILES, cause_of(error))
            if self._path != new:
                remove(new)

    def _load(self, path: Path) -> None:
        self._shard = call_qdrant(qdrant.EdgeShard.load, str(path))

    def _flush(self) -> None:
        call_qdrant(self._shard.flush)
        self._unflushed = 0

    def _close_shard(self) -> None:
        self._flush()
        call_qdrant(self._shard.close)

    def _update(self, operation: qdrant.UpdateOperation, *, deletes: bool) -> None:
        """Apply a change and sync it to the disk, in the log that the next `load` replays.

        Args:
            deletes: whether it deletes or replaces rows: the card records that first.
        """
        check_room(self._folder)
        missed = self._missed
        if deletes:
            if not self._card.stale:
                self._note(replace(self._card, stale=True))
            if missed is not None:
                missed.deletions = True
        call_qdrant(self._shard.update, operation)
        if missed is not None:
            missed.operations.append(operation)
        for path in (self._path / "wal").iterdir():
            # The library creates and renames the log's next file in the background.
            with contextlib.suppress(FileNotFoundError):
                sync(path)

    def _shut(self) -> None:
        try:
            check_room(self._folder)
            if self._card.stale and not self._is_large():
                self._rewrite_now()
            self._close_shard()
            remove_others(self._folder, self._card)
        except (DemonstrationsUnavailable, OSError) as error:
            # Nothing is lost: the next `load` replays the log.
            log.warning("the latest changes remain in the index's log: %s", cause_of(error))
        finally:
            os.close(self._lock)


def _goes_on(steps: Iterator[None]) -> bool:
    """Take one step; return whether there was one."""
    for _ in steps:
        return True
    return False


async def _build(shard: Path) -> None:
    try:
        await build_graphs(shard)
    except GraphNotBuilt as error:
        raise DemonstrationsUnavailable(f"cannot build the graphs of {shard}: {error}") from error


def qdrant_filter(among: Filter) -> qdrant.Filter:
    """A filter as Qdrant's library takes it."""
    return qdrant.Filter(
        must=[_condition(each) for each in among.all_of] or None,
        should=[_condition(each) for each in among.any_of] or None,
        must_not=[_condition(each) for each in among.none_of] or None,
    )


def _condition(condition: Condition) -> qdrant.FieldCondition | qdrant.IsEmptyCondition:
    if condition.value is None:
        return qdrant.IsEmptyCondition(condition.field)
    return qdrant.FieldCondition(condition.field, match=qdrant.MatchValue(condition.value))


def _beside(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task in an empty context: otherwise the log would name a request that has ended."""
    return asyncio.create_task(work, context=contextvars.Context())


def _open(
    folder: Path,
    encoder_identity: str,
    exact_up_to: int,
    gathered_s: float,
    thread: ThreadPoolExecutor,
) -> EdgeStore:
    try:
        # Utterances must not be readable by other users of this machine.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DemonstrationsUnavailable(f"cannot use {folder}: {error.strerror}") from error
    try:
        # Qdrant locks the shard too, but has no error type for it, and creates the files first.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        card = read_card(folder, encoder_identity)
        shard = open_shard(folder, card, exact_up_to)
    except BlockingIOError as error:
        os.close(lock)
        raise DemonstrationsUnavailable(
            f"{folder} is open in another process; only one process at a time can use an embedded "
            "index"
        ) from error
    except (DemonstrationsUnavailable, OSError) as error:
        os.close(lock)
        cause = error.__cause__ or error
        raise DemonstrationsUnavailable(f"cannot open the index in {folder}: {cause}") from error
    except BaseException:
        os.close(lock)
        raise
    return EdgeStore(folder, card, shard, exact_up_to, gathered_s, lock, thread)
