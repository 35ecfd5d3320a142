"""The embedded demonstration store: Qdrant's engine in this process, its data in one folder.

A search looks at every vector of a small label space, so it is exact there, and through a graph
(HNSW) of a large one, which takes time logarithmic in the number of demonstrations and now and then
misses a near one. What has just been added is in no graph: a search finds it at once, by looking at
all of it, 0.7 ms for 10,000. When it is more than a small label space has, it is put into the
graphs: another process does that on a copy of the index (`graph.py`), which then takes the place of
the one that has been serving meanwhile. When an index is opened the copy is not needed.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import qdrant_edge as qdrant

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vector, Vectors
from service.demonstrations.graph import GraphNotBuilt, build_graphs
from service.demonstrations.points import (
    CANDIDATES_OF_A_SEARCH,
    EDITION,
    EXACT_UP_TO,
    LABEL_SPACE,
    TENANT,
    PageRequest,
    Row,
    found_of,
    looked_up,
    match_of,
    point_id,
    points_of,
    query_vector,
    texts_of,
    writes,
)
from service.demonstrations.shard import (
    Card,
    check_room,
    copy_shard,
    open_shard,
    read_card,
    sync,
    write_card,
)
from service.demonstrations.store import IndexMismatch, Match, Page
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# A flush moves the log's rows into the segments. It keeps all threads waiting for 30 to 100 ms on a
# slow disk, syncing the log none, so a write syncs the log and only this many rows ask for a flush.
_FLUSH_AFTER = 4096

_EXACT = qdrant.SearchParams(exact=True)

# Graphs hold one byte a number. The best 4 k are compared again, by their full vectors.
_BY_GRAPH = qdrant.SearchParams(
    hnsw_ef=CANDIDATES_OF_A_SEARCH,
    quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=4.0),
)


async def open_edge(
    folder: Path, encoder_identity: str, exact_up_to: int = EXACT_UP_TO
) -> "EdgeStore":
    """Open the index in a folder; one that does not exist is made, with the folder.

    Of a large index, what is in no graph yet is put into them first.

    Args:
        exact_up_to: demonstrations up to which a label space has no graph; of what has just been
            added, so many may be in none.

    Raises:
        IndexMismatch: another encoder built the index, or its `index.json` is missing or broken.
        DemonstrationsUnavailable: another process has it open, or it cannot be read or made.
    """
    # One thread makes all calls: they hold the interpreter lock, so more would only queue there.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edge")
    try:
        loop = asyncio.get_running_loop()
        store = await loop.run_in_executor(
            thread, _open, folder, encoder_identity, exact_up_to, thread
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


class EdgeStore:
    """A `DemonstrationStore` in a folder that this process alone may use; see `open_edge`."""

    def __init__(
        self,
        folder: Path,
        card: Card,
        shard: qdrant.EdgeShard,
        exact_up_to: int,
        lock: int,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._folder = folder
        self._card = card
        self._shard = shard
        self._exact_up_to = exact_up_to
        self._lock = lock
        self._thread = thread
        self._closed = False
        self._unflushed = 0  # rows written since the last flush
        self._apart = 0  # rows that people added since the graphs were built
        self._writing = asyncio.Lock()  # keeps the shard's files as they are
        self._renewing = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None
        self._missed: list[qdrant.UpdateOperation] | None = None  # by the copy that is being built

    async def add(
        self,
        demonstrations: Sequence[Demonstration],
        vectors: Vectors,
        edition: str | None = None,
        tenant: str | None = None,
    ) -> None:
        # One call of the thread a portion, so that queries come between.
        for rows in writes(demonstrations, vectors, edition, tenant):
            async with self._writing:
                await self._run(self._write, rows)
        if edition is None:
            self._apart += len(demonstrations)
        if self._apart > self._exact_up_to and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew_beside())
        if len(demonstrations) > self._exact_up_to:
            await self.settled()

    async def nearest(
        self, vector: Vector, label_space: str, k: int, tenant: str | None = None
    ) -> list[Match]:
        query = qdrant.Query.Nearest(query_vector(vector, k))
        found = await self._run(self._nearest, query, label_space, k, tenant)
        return [match_of(point.payload, point.score) for point in found]

    async def get(self, demonstration_id: str, tenant: str | None = None) -> Demonstration:
        records = await self._run(self._retrieve, points_of(demonstration_id, tenant))
        return found_of([record.payload for record in records], demonstration_id)

    async def texts(
        self, demonstration_ids: Collection[str], tenant: str | None = None
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        for points in looked_up(demonstration_ids, tenant):
            records = await self._run(self._retrieve, points)
            found |= texts_of([record.payload for record in records])
        return found

    async def delete(self, demonstration_id: str, tenant: str | None = None) -> None:
        async with self._writing:
            found = await self._run(self._delete, point_id(demonstration_id, tenant))
        if not found:
            raise DemonstrationNotFound(f"there is no demonstration {demonstration_id!r}")

    async def count(self, label_space: str | None = None, *, tenant: str | None = None) -> int:
        request = qdrant.CountRequest(exact=True, filter=_within(label_space, tenant))
        return await self._run(lambda: self._shard.count(request))

    async def edition(self) -> str | None:
        return self._card.edition

    async def finish_edition(self, edition: str) -> None:
        async with self._writing:
            await self._run(self._drop_other_editions, edition)
        if await self._run(self._is_large):
            await self._renew()
        await self._run(self._note_edition, edition)

    async def settled(self) -> None:
        """Return when no graph is being built for what people added."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal])

    async def ping(self) -> None:
        await self._run(lambda: self._shard.info())

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
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
            filter=_seen(tenant, label_space),
            with_payload=True,
            with_vector=False,
        )
        records, _ = await self._run(lambda: self._shard.scroll(scroll))
        return request.page([record.payload for record in records])

    async def _catch_up(self) -> None:
        """Have everything in the graphs, before anybody uses the store."""
        if not await self._run(self._is_large):
            await self._run(lambda: self._shard.optimize())  # gives back the room of deleted rows
            return
        await self._run(self._close_shard)
        await _build(self._path)
        await self._run(self._load, self._path)

    async def _renew_beside(self) -> None:
        try:
            await self._renew()
        except Exception:
            log.exception("what was added stays outside of the graphs: searches get slower with it")

    async def _renew(self) -> None:
        """Have a copy with everything in its graphs take the place of the shard."""
        async with self._renewing:
            async with self._writing:
                await self._run(lambda: self._shard.flush())
                copy = await asyncio.to_thread(copy_shard, self._path)
                self._missed = []
                self._apart = 0
            try:
                await _build(copy)
                async with self._writing:
                    await self._run(self._change_over, copy, self._missed)
            except DemonstrationsUnavailable:
                if self._path != copy:
                    shutil.rmtree(copy, ignore_errors=True)
                raise
            finally:
                self._missed = None

    @property
    def _path(self) -> Path:
        return self._folder / self._card.shard

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise DemonstrationsUnavailable("the demonstration index is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _guarded, partial(call, *args, **kwargs))

    # What follows runs on the thread, where `self._shard` may change from one call to the next.

    def _is_large(self) -> bool:
        return bool(self._shard.info().points_count > self._exact_up_to)

    def _nearest(
        self, query: qdrant.Query, label_space: str, k: int, tenant: str | None
    ) -> Sequence[qdrant.ScoredPoint]:
        # From the index of label spaces: 0.02 ms however many there are.
        size = self._shard.count(qdrant.CountRequest(exact=False, filter=_within(label_space)))
        request = qdrant.QueryRequest(
            limit=k,
            query=query,
            filter=_seen(tenant, label_space),
            params=_EXACT if size <= self._exact_up_to else _BY_GRAPH,
            with_payload=True,
        )
        return self._shard.query(request)

    def _write(self, rows: Sequence[Row]) -> None:
        points = [qdrant.Point(row.point_id, row.vector, row.payload) for row in rows]
        self._update(qdrant.UpdateOperation.upsert_points(points))
        self._unflushed += len(rows)
        if self._unflushed >= _FLUSH_AFTER:
            self._shard.flush()
            self._unflushed = 0

    def _retrieve(self, points: Sequence[uuid.UUID]) -> Sequence[qdrant.Record]:
        return self._shard.retrieve([*points], with_payload=True, with_vector=False)

    def _delete(self, point: uuid.UUID) -> bool:
        if not self._retrieve([point]):
            return False
        self._update(qdrant.UpdateOperation.delete_points([point]))
        return True

    def _drop_other_editions(self, edition: str) -> None:
        others = qdrant.Filter(must_not=[qdrant.IsEmptyCondition(EDITION), _is(EDITION, edition)])
        self._update(qdrant.UpdateOperation.delete_points_by_filter(others))

    def _note_edition(self, edition: str) -> None:
        self._note(replace(self._card, edition=edition))

    def _note(self, card: Card) -> None:
        write_card(self._folder, card)
        self._card = card

    def _change_over(self, copy: Path, missed: Sequence[qdrant.UpdateOperation]) -> None:
        old, left = self._shard, self._path
        new = qdrant.EdgeShard.load(str(copy))
        for operation in missed:
            new.update(operation)
        new.flush()
        self._note(replace(self._card, shard=copy.name))
        self._shard = new
        self._unflushed = 0
        old.close()
        shutil.rmtree(left, ignore_errors=True)

    def _load(self, path: Path) -> None:
        self._shard = qdrant.EdgeShard.load(str(path))

    def _close_shard(self) -> None:
        self._shard.flush()
        self._shard.close()

    def _update(self, operation: qdrant.UpdateOperation) -> None:
        """Apply a change and have it on the disk, in the log that the next `load` replays."""
        check_room(self._folder)
        self._shard.update(operation)
        missed = self._missed
        if missed is not None:
            missed.append(operation)
        for path in (self._path / "wal").iterdir():
            # The library makes the log's next file in the background, and renames it.
            with contextlib.suppress(FileNotFoundError):
                sync(path)

    def _shut(self) -> None:
        try:
            check_room(self._folder)
            self._close_shard()
        except BaseException as error:  # as in `_guarded`
            # Nothing is lost: the next `load` replays the log.
            log.warning("what was added last stays in the index's log: %s", error)
        finally:
            os.close(self._lock)


def _guarded(call: Callable[[], T]) -> T:
    """Make one call of the library, on the thread."""
    try:
        return call()
    except DemonstrationsUnavailable:
        raise
    except BaseException as error:  # it raises plain Exception, or, should it panic, not even that
        raise DemonstrationsUnavailable("the demonstration index does not answer") from error


async def _build(shard: Path) -> None:
    try:
        await build_graphs(shard)
    except GraphNotBuilt as error:
        raise DemonstrationsUnavailable(f"cannot build the graphs of {shard}: {error}") from error


def _within(label_space: str | None, tenant: str | None = None) -> qdrant.Filter:
    """The label space, or all; whosever, or the tenant's own."""
    wanted = {LABEL_SPACE: label_space, TENANT: tenant}
    return qdrant.Filter(must=[_is(f, value) for f, value in wanted.items() if value is not None])


def _seen(tenant: str | None, label_space: str | None) -> qdrant.Filter:
    """What is shared, and the tenant's own."""
    own = () if tenant is None else (_is(TENANT, tenant),)
    return qdrant.Filter(
        must=None if label_space is None else [_is(LABEL_SPACE, label_space)],
        should=[qdrant.IsEmptyCondition(TENANT), *own],
    )


def _is(field: str, value: str) -> qdrant.FieldCondition:
    return qdrant.FieldCondition(field, match=qdrant.MatchValue(value))


def _open(
    folder: Path, encoder_identity: str, exact_up_to: int, thread: ThreadPoolExecutor
) -> EdgeStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DemonstrationsUnavailable(f"cannot use {folder}: {error.strerror}") from error
    try:
        # Qdrant locks its own part too, but says so in words only, and after the files are made.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        card = read_card(folder, encoder_identity)
        shard = open_shard(folder, card, exact_up_to)
    except BlockingIOError as error:
        os.close(lock)
        raise DemonstrationsUnavailable(
            f"{folder} is open in another process; an embedded index serves one at a time"
        ) from error
    except IndexMismatch:
        os.close(lock)
        raise
    except BaseException as error:  # as in `_guarded`
        os.close(lock)
        raise DemonstrationsUnavailable(f"cannot open the index in {folder}: {error}") from error
    return EdgeStore(folder, card, shard, exact_up_to, lock, thread)
