"""Qdrant's shard, which holds an embedded index: made, loaded, copied, rewritten, removed."""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import qdrant_edge as qdrant

from service.demonstrations.encoder import DIMENSIONS
from service.demonstrations.index_parameters import (
    CANDIDATES_OF_A_BUILD,
    EDGES,
    FILTERED_BY,
    GRAPHED_BY,
    kilobytes,
)
from service.demonstrations.qdrant_edge.card import UNFINISHED, Card, check_shard, shards
from service.demonstrations.qdrant_edge.disk import check_room, sync, sync_folders
from service.errors import DemonstrationsUnavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# A flush moves the log's rows into the segments. It blocks all threads for 30 to 100 ms on a slow
# disk, syncing the log blocks none. So each write syncs the log, and a flush waits for this many.
FLUSH_AFTER = 4096

# Rows copied to a new shard in one step, 3 ms: the library blocks all threads.
_ROWS_A_STEP = 64


def call_qdrant(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call Qdrant's library.

    Raises:
        DemonstrationsUnavailable: the library failed. An error in the call itself, such as a
            TypeError, is raised unchanged.
    """
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        # The library has no error class of its own: it raises plain Exception or, if it panics, a
        # BaseException whose class cannot be imported.
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise DemonstrationsUnavailable("the demonstration index does not answer") from error
        raise


def open_shard(folder: Path, card: Card, exact_up_to: int) -> qdrant.EdgeShard:
    """Load the shard that the card names; create it if there is none.

    Remnants of a killed process are deleted.

    Args:
        exact_up_to: the most vectors of a label space without a graph.

    Raises:
        IndexMismatch: as `check_shard`.
    """
    path = folder / card.shard
    check_shard(folder, card)
    remove_others(folder, card)
    if not path.exists():
        new = folder / UNFINISHED  # renamed when it is complete
        shutil.rmtree(new, ignore_errors=True)  # left by a process that was killed here
        new.mkdir()
        created = call_qdrant(qdrant.EdgeShard.create, str(new), _config(exact_up_to))
        call_qdrant(created.flush)
        call_qdrant(created.close)
        new.rename(path)
    shard = call_qdrant(qdrant.EdgeShard.load, str(path), _config(exact_up_to))
    _index_fields(shard)
    return shard


def rewrite(source: qdrant.EdgeShard, target: Path, exact_up_to: int) -> Iterator[None]:
    """Copy a shard's rows to a new one, some at each step; then close it.

    Deleted rows remain in the source's files, whose log is kept for long, and in a copy of these,
    but not in the new shard's. Rows that are written to the source meanwhile may be missing.

    Raises:
        DemonstrationsUnavailable: there is too little disk space, or the library failed.
    """
    check_room(target.parent)
    target.mkdir()
    shard = call_qdrant(qdrant.EdgeShard.create, str(target), _config(exact_up_to))
    unflushed, offset = 0, None
    try:
        _index_fields(shard)
        while True:
            request = qdrant.ScrollRequest(
                offset=offset, limit=_ROWS_A_STEP, with_payload=True, with_vector=True
            )
            records, offset = call_qdrant(source.scroll, request)
            points = [
                qdrant.Point(record.id, cast(list[float], record.vector), record.payload)
                for record in records
            ]
            check_room(target.parent)
            call_qdrant(shard.update, qdrant.UpdateOperation.upsert_points(points))
            if offset is None:
                break
            unflushed += len(points)
            if unflushed >= FLUSH_AFTER:
                call_qdrant(shard.flush)
                unflushed = 0
            yield
        call_qdrant(shard.flush)
    finally:
        call_qdrant(shard.close)


def remove(shard: Path) -> None:
    """Delete a shard's files; log a warning if some are left."""
    for _ in range(2):  # the library may add a file to its log meanwhile
        shutil.rmtree(shard, ignore_errors=True)
    if shard.exists():
        log.warning("%s is no longer used and cannot be deleted", shard)


def remove_others(folder: Path, card: Card) -> None:
    """Delete the shards that the card does not name."""
    for path in shards(folder):
        if path.name != card.shard:
            remove(path)


def copy_shard(shard: Path, copy: Path) -> None:
    """Copy a shard that is open, flushed and not written meanwhile; sync the copy to the disk."""

    def copy_file(source: str, target: str) -> None:
        # The library creates and renames its log's next file in the background; it is not needed.
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, target)
            sync(Path(target))

    try:
        shutil.copytree(shard, copy, copy_function=copy_file)
        sync_folders(copy)
    except BaseException:  # usually the disk is full, and must not stay so
        shutil.rmtree(copy, ignore_errors=True)
        raise


def _index_fields(shard: qdrant.EdgeShard) -> None:
    """Index the fields that filters use; existing indexes are unchanged."""
    for field, index in _FIELDS.items():
        call_qdrant(shard.update, qdrant.UpdateOperation.create_field_index(field, index))


_FIELDS = {
    GRAPHED_BY: qdrant.KeywordIndexParams(is_tenant=True),
    **dict.fromkeys(FILTERED_BY, qdrant.KeywordIndexParams(enable_hnsw=False)),
}


def _config(exact_up_to: int) -> qdrant.EdgeConfig:
    return qdrant.EdgeConfig(
        vectors=qdrant.EdgeVectorParams(size=DIMENSIONS, distance=qdrant.Distance.Cosine),
        hnsw_config=qdrant.HnswIndexConfig(
            m=0,  # of the graph for all
            payload_m=EDGES,
            ef_construct=CANDIDATES_OF_A_BUILD,
            full_scan_threshold=kilobytes(exact_up_to),
        ),
        # One byte a number halves the time to build and search graphs.
        quantization_config=qdrant.ScalarQuantizationConfig(
            qdrant.ScalarType.Int8, memory=qdrant.Memory.Pinned
        ),
        optimizers=qdrant.EdgeOptimizersConfig(
            indexing_threshold=kilobytes(exact_up_to),
            default_segment_number=1,  # a search goes through every segment's graph
        ),
    )
