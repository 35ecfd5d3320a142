"""The folder of an embedded index: its card, which names the encoder, and Qdrant's shard.

The folder holds `index.json`, the card, and a folder `shard...`, which the card names.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import qdrant_edge as qdrant

from service.demonstrations.encoder import DIMENSIONS
from service.demonstrations.indexing import (
    CANDIDATES_OF_A_BUILD,
    EDGES,
    FILTERED_BY,
    GRAPHED_BY,
    kilobytes,
)
from service.demonstrations.points import ROOM_BYTES
from service.demonstrations.store import IndexMismatch
from service.errors import DemonstrationsUnavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# A flush moves the log's rows into the segments. It blocks all threads for 30 to 100 ms on a slow
# disk, syncing the log blocks none. So each write syncs the log, and a flush waits for this many.
FLUSH_AFTER = 4096

# Rows copied to a new shard in one step, 3 ms: the library blocks all threads.
_ROWS_A_STEP = 64

_CARD = "index.json"
_SHARD = "shard"
# The names of the first shard and of copies; folders of other names are never removed.
_NAME = re.compile(rf"{_SHARD}(-[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})?")


@dataclass(frozen=True, slots=True)
class Card:
    """The content of `index.json`, the description of an index.

    Attributes:
        encoder: the identity of the encoder that built it.
        edition: the edition that is completely loaded; None before the first.
        shard: the folder of the shard; other ones are remnants.
        stale: whether the shard's files may hold rows that were deleted or replaced.
    """

    encoder: str
    edition: str | None = None
    shard: str = _SHARD
    stale: bool = False


def card_of(folder: Path, encoder_identity: str) -> Card | None:
    """The card of an index that this encoder built; None if there is no index. Writes nothing.

    Raises:
        IndexMismatch: another encoder built it, or the card is missing or broken.
    """
    path = folder / _CARD
    again = _again(folder)
    try:
        # A card without `stale` is older than the field, and its shard was never rewritten.
        card = Card(**{"stale": True, **json.loads(path.read_text(encoding="utf-8"))})
    except FileNotFoundError:
        if shards(folder):
            raise IndexMismatch(
                f"{path} is missing, so that it is unknown what built the index; {again}"
            ) from None
        return None
    except (ValueError, TypeError) as error:
        raise IndexMismatch(f"{path} is not an index card: {error}; {again}") from None
    if card.encoder != encoder_identity:
        raise IndexMismatch(
            f"{folder} was built with {card.encoder}, but the encoder is {encoder_identity}; "
            f"{again}"
        )
    return card


def check_shard(folder: Path, card: Card) -> None:
    """Check that the card's shard exists, or that none was made yet. Writes nothing.

    Raises:
        IndexMismatch: the shard is lost: the card names its edition, or there is another shard.
    """
    existing = shards(folder)
    if folder / card.shard not in existing and (existing or card.edition is not None):
        others = f"only {', '.join(path.name for path in existing)}" if existing else "no shard"
        raise IndexMismatch(
            f"{folder / _CARD} names {card.shard}, but the folder contains {others}; put it back, "
            f"or {_again(folder)}"
        )


def shards(folder: Path) -> list[Path]:
    """The shards in a folder, including those that the card does not name."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def read_card(folder: Path, encoder_identity: str) -> Card:
    """The card of an index, as `card_of`; for a new index it is written."""
    card = card_of(folder, encoder_identity)
    if card is None:
        card = Card(encoder_identity)
        # Before the shard is made, so that no shard is ever without a card.
        write_card(folder, card)
    return card


def write_card(folder: Path, card: Card) -> None:
    """Replace the card atomically; it is on the disk when this returns."""
    new = folder / f"{_CARD}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump(asdict(card), file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / _CARD)
    sync(folder)


def sync(path: Path) -> None:
    """Sync a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def sync_files(shard: Path) -> None:
    """Sync all of a closed shard to the disk."""
    for path in shard.rglob("*"):
        if path.is_file():
            sync(path)
    sync_folders(shard)


def sync_folders(shard: Path) -> None:
    """Sync the names of a shard's files to the disk."""
    for path in (shard, *shard.rglob("*")):
        if path.is_dir():
            sync(path)


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
        new = folder / f"{_SHARD}.new"  # renamed when it is complete
        shutil.rmtree(new, ignore_errors=True)  # left by a process that was killed here
        new.mkdir()
        created = call_qdrant(qdrant.EdgeShard.create, str(new), _config(exact_up_to))
        call_qdrant(created.flush)
        call_qdrant(created.close)
        new.rename(path)
    shard = call_qdrant(qdrant.EdgeShard.load, str(path), _config(exact_up_to))
    _index_fields(shard)
    return shard


def check_room(folder: Path) -> None:
    """Refuse to write when the disk is almost full.

    The library writes to memory-mapped files whose disk space is not reserved: if none is left when
    a page is first written, the kernel kills the process.

    Raises:
        DemonstrationsUnavailable: there is too little disk space.
    """
    if shutil.disk_usage(folder).free < ROOM_BYTES:
        raise DemonstrationsUnavailable("the disk is too full for more demonstrations")


def new_path(folder: Path) -> Path:
    """A new path for a shard that is to replace the card's."""
    return folder / f"{_SHARD}-{uuid.uuid4()}"


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


def _again(folder: Path) -> str:
    return f"delete {folder} to build it again"


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
