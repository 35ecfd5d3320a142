"""The embedded demonstration store: Qdrant's engine in this process, its data in one folder.

Every search looks at every vector of the label space, so it is exact, and no graph is built: with
25,000 demonstrations in four label spaces a query takes 0.7 ms, and a graph, which gains nothing
there, takes 7.5 s to build, during which the library holds Python's interpreter lock.

The folder holds `index.json` (the encoder that built the index, the edition that is loaded) and
`shard/`, which is Qdrant's own.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import qdrant_edge as qdrant

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import DIMENSIONS, Vector, Vectors
from service.demonstrations.points import (
    EDITION,
    LABEL_SPACE,
    POINTS_A_WRITE,
    PageRequest,
    Row,
    demonstration_of,
    match_of,
    point_id,
    query_vector,
    writes,
)
from service.demonstrations.store import IndexMismatch, Match, Page
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable

P = ParamSpec("P")
T = TypeVar("T")

_SHARD = "shard"
_CARD = "index.json"

# A flush moves the log's rows into the segments. It keeps all threads waiting for 30 to 100 ms on a
# slow disk, syncing the log none, so a write syncs the log and only this many rows ask for a flush.
_FLUSH_AFTER = 4096


@dataclass(frozen=True, slots=True)
class _Card:
    """What `index.json` says of the index."""

    encoder: str
    edition: str | None = None


async def open_edge(folder: Path, encoder_identity: str) -> "EdgeStore":
    """Open the index in a folder; one that does not exist is made, with the folder.

    Raises:
        IndexMismatch: another encoder built the index, or its `index.json` is missing or broken.
        DemonstrationsUnavailable: another process has it open, or it cannot be read or made.
    """
    # One thread makes all calls: they hold the interpreter lock, so more would only queue there.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="edge")
    try:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, _open, folder, encoder_identity, thread)
    except BaseException:
        thread.shutdown(wait=False)
        raise


class EdgeStore:
    """A `DemonstrationStore` in a folder that this process alone may use; see `open_edge`."""

    def __init__(
        self,
        folder: Path,
        card: _Card,
        shard: qdrant.EdgeShard,
        lock: int,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._folder = folder
        self._card = card
        self._shard = shard
        self._lock = lock
        self._thread = thread
        self._closed = False
        self._unflushed = 0  # rows written since the last flush

    async def add(
        self,
        demonstrations: Sequence[Demonstration],
        vectors: Vectors,
        edition: str | None = None,
    ) -> None:
        # One call of the thread a portion, so that queries come between.
        for rows in writes(demonstrations, vectors, edition):
            await self._run(self._write, rows)
        if len(demonstrations) > POINTS_A_WRITE:
            await self._run(self._shard.optimize)

    async def nearest(self, vector: Vector, label_space: str, k: int) -> list[Match]:
        request = qdrant.QueryRequest(
            limit=k,
            query=qdrant.Query.Nearest(query_vector(vector, k)),
            filter=_within(label_space),
            params=qdrant.SearchParams(exact=True),
            with_payload=True,
        )
        return [match_of(p.payload, p.score) for p in await self._run(self._shard.query, request)]

    async def get(self, demonstration_id: str) -> Demonstration:
        for record in await self._run(self._retrieve, point_id(demonstration_id)):
            return demonstration_of(record.payload)
        raise DemonstrationNotFound(f"there is no demonstration {demonstration_id!r}")

    async def delete(self, demonstration_id: str) -> None:
        if not await self._run(self._delete, point_id(demonstration_id)):
            raise DemonstrationNotFound(f"there is no demonstration {demonstration_id!r}")

    async def count(self, label_space: str | None = None) -> int:
        request = qdrant.CountRequest(exact=True, filter=_within(label_space))
        return await self._run(self._shard.count, request)

    async def edition(self) -> str | None:
        return self._card.edition

    async def finish_edition(self, edition: str) -> None:
        await self._run(self._finish_edition, edition)

    async def ping(self) -> None:
        await self._run(self._shard.info)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, _guarded, self._shut)
        finally:
            self._thread.shutdown(wait=False)

    async def list(
        self, label_space: str | None = None, limit: int = 100, after: str | None = None
    ) -> Page:
        request = PageRequest(limit, after)
        scroll = qdrant.ScrollRequest(
            offset=request.scroll_offset,
            limit=request.scroll_limit,
            filter=_within(label_space),
            with_payload=True,
            with_vector=False,
        )
        records, _ = await self._run(self._shard.scroll, scroll)
        return request.page([record.payload for record in records])

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._closed:
            raise DemonstrationsUnavailable("the demonstration index is closed")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _guarded, partial(call, *args, **kwargs))

    # What follows runs on the thread.

    def _write(self, rows: Sequence[Row]) -> None:
        points = [qdrant.Point(row.point_id, row.vector, row.payload) for row in rows]
        self._update(qdrant.UpdateOperation.upsert_points(points))
        self._unflushed += len(rows)
        if self._unflushed >= _FLUSH_AFTER:
            self._shard.flush()
            self._unflushed = 0

    def _retrieve(self, point: uuid.UUID) -> Sequence[qdrant.Record]:
        return self._shard.retrieve([point], with_payload=True, with_vector=False)

    def _delete(self, point: uuid.UUID) -> bool:
        if not self._retrieve(point):
            return False
        self._update(qdrant.UpdateOperation.delete_points([point]))
        return True

    def _finish_edition(self, edition: str) -> None:
        this = qdrant.FieldCondition(EDITION, match=qdrant.MatchValue(edition))
        others = qdrant.Filter(must_not=[qdrant.IsEmptyCondition(EDITION), this])
        self._update(qdrant.UpdateOperation.delete_points_by_filter(others))
        card = replace(self._card, edition=edition)
        _write_card(self._folder, card)
        self._card = card

    def _update(self, operation: qdrant.UpdateOperation) -> None:
        """Apply a change and have it on the disk, in the log that the next `load` replays."""
        self._shard.update(operation)
        for path in (self._folder / _SHARD / "wal").iterdir():
            # The library makes the log's next file in the background, and renames it.
            with contextlib.suppress(FileNotFoundError):
                _sync(path)

    def _shut(self) -> None:
        try:
            self._shard.flush()
            self._shard.close()
        finally:
            os.close(self._lock)


def _guarded(call: Callable[[], T]) -> T:
    """Make one call of the library, on the thread."""
    try:
        return call()
    except BaseException as error:  # it raises plain Exception, or, should it panic, not even that
        raise DemonstrationsUnavailable("the demonstration index does not answer") from error


def _within(label_space: str | None) -> qdrant.Filter | None:
    if label_space is None:
        return None
    return qdrant.Filter(
        must=[qdrant.FieldCondition(LABEL_SPACE, match=qdrant.MatchValue(label_space))]
    )


def _open(folder: Path, encoder_identity: str, thread: ThreadPoolExecutor) -> EdgeStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DemonstrationsUnavailable(f"cannot use {folder}: {error.strerror}") from error
    try:
        # Qdrant locks its own part too, but says so in words only, and after the files are made.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        card = _read_card(folder, encoder_identity)
        shard = _open_shard(folder)
    except BlockingIOError as error:
        os.close(lock)
        raise DemonstrationsUnavailable(
            f"{folder} is open in another process; an embedded index serves one at a time"
        ) from error
    except (IndexMismatch, DemonstrationsUnavailable):
        os.close(lock)
        raise
    except BaseException as error:  # as in `_guarded`
        os.close(lock)
        raise DemonstrationsUnavailable(f"cannot open the index in {folder}: {error}") from error
    return EdgeStore(folder, card, shard, lock, thread)


def _read_card(folder: Path, encoder_identity: str) -> _Card:
    """The card of an index that this encoder built, or of a new one."""
    path = folder / _CARD
    again = f"delete {folder} to build it again"
    try:
        card = _Card(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if (folder / _SHARD).exists():
            raise IndexMismatch(f"{path} is missing: no telling what built it; {again}") from None
        card = _Card(encoder_identity)
        # Before the shard is made, so that there is never a shard without it.
        _write_card(folder, card)
    except (ValueError, TypeError) as error:
        raise IndexMismatch(f"{path} is not an index card: {error}; {again}") from None
    if card.encoder != encoder_identity:
        raise IndexMismatch(
            f"{folder} was built with {card.encoder}, the encoder is {encoder_identity}; {again}"
        )
    return card


def _write_card(folder: Path, card: _Card) -> None:
    """Replace the card in one step, on the disk when this returns."""
    new = folder / f"{_CARD}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump(asdict(card), file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / _CARD)
    _sync(folder)


def _sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _open_shard(folder: Path) -> qdrant.EdgeShard:
    """Load the shard, made first where there is none; its name appears when it is complete."""
    path = folder / _SHARD
    if not path.exists():
        new = folder / f"{_SHARD}.new"
        shutil.rmtree(new, ignore_errors=True)  # of a process that was killed here
        new.mkdir()
        shard = qdrant.EdgeShard.create(str(new), _config())
        for field in (LABEL_SPACE, EDITION):
            index = qdrant.UpdateOperation.create_field_index(
                field, qdrant.PayloadSchemaType.Keyword
            )
            shard.update(index)
        shard.flush()
        shard.close()
        new.rename(path)
    shard = qdrant.EdgeShard.load(str(path))
    shard.optimize()  # gives back the room of what was deleted
    return shard


def _config() -> qdrant.EdgeConfig:
    return qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(size=DIMENSIONS, distance=qdrant.Distance.Cosine),
        optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=0),  # never build a graph
    )
