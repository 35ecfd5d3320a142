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
from service.demonstrations.points import (
    CANDIDATES_OF_A_BUILD,
    EDGES,
    EDITION,
    KIND,
    LABEL_SPACE,
    ROOM_BYTES,
    TENANT,
    kilobytes,
)
from service.demonstrations.store import IndexMismatch
from service.errors import DemonstrationsUnavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# A flush moves the log's rows into the segments. It keeps all threads waiting for 30 to 100 ms on a
# slow disk, syncing the log none, so a write syncs the log and only this many rows ask for a flush.
FLUSH_AFTER = 4096

# Rows that are copied at a time into a new shard, 3 ms: the library keeps all threads waiting.
_ROWS_A_STEP = 64

_CARD = "index.json"
_SHARD = "shard"
# The first one's, and those of copies; a folder of another name is none of ours to remove.
_NAME = re.compile(rf"{_SHARD}(-[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})?")


@dataclass(frozen=True, slots=True)
class Card:
    """What `index.json` says of the index.

    Attributes:
        encoder: the identity of the encoder that built it.
        edition: the edition that is completely loaded.
        shard: the folder of the shard; other ones are remnants.
        stale: whether the shard's files may hold rows that were deleted or replaced.
    """

    encoder: str
    edition: str | None = None
    shard: str = _SHARD
    stale: bool = False


def card_of(folder: Path, encoder_identity: str) -> Card | None:
    """The card of an index that this encoder built; None: there is no index. Writes nothing.

    Raises:
        IndexMismatch: another encoder built it, or the card is missing or broken.
    """
    path = folder / _CARD
    again = _again(folder)
    try:
        # A card that does not say so is older than the word, and than any rewriting.
        card = Card(**{"stale": True, **json.loads(path.read_text(encoding="utf-8"))})
    except FileNotFoundError:
        if shards(folder):
            raise IndexMismatch(f"{path} is missing: no telling what built it; {again}") from None
        return None
    except (ValueError, TypeError) as error:
        raise IndexMismatch(f"{path} is not an index card: {error}; {again}") from None
    if card.encoder != encoder_identity:
        raise IndexMismatch(
            f"{folder} was built with {card.encoder}, the encoder is {encoder_identity}; {again}"
        )
    return card


def check_shard(folder: Path, card: Card) -> None:
    """See that the shard that the card names is there, or that none was made yet. Writes nothing.

    Raises:
        IndexMismatch: it is not there, but was: the card tells of what it held, or there is
            another one.
    """
    found = shards(folder)
    if folder / card.shard not in found and (found or card.edition is not None):
        others = f"only {', '.join(each.name for each in found)}" if found else "no shard"
        raise IndexMismatch(
            f"{folder / _CARD} names {card.shard}, but {others} is there; put it back, or "
            f"{_again(folder)}"
        )


def shards(folder: Path) -> list[Path]:
    """The shards in a folder, those that the card does not name among them."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def read_card(folder: Path, encoder_identity: str) -> Card:
    """The card of an index, as `card_of`; that of a new one is written."""
    card = card_of(folder, encoder_identity)
    if card is None:
        card = Card(encoder_identity)
        # Before the shard is made, so that there is never a shard without it.
        write_card(folder, card)
    return card


def write_card(folder: Path, card: Card) -> None:
    """Replace the card in one step, on the disk when this returns."""
    new = folder / f"{_CARD}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump(asdict(card), file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / _CARD)
    sync(folder)


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's names, on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def library(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Make one call of Qdrant's library.

    Raises:
        DemonstrationsUnavailable: the library failed. What is wrong with the call itself, a
            TypeError say, is raised as it is.
    """
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        # It has no error class of its own: it raises plain Exception, or, should it panic, one that
        # is not even that and has no name to be caught by.
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise DemonstrationsUnavailable("the demonstration index does not answer") from error
        raise


def sync_files(shard: Path) -> None:
    """Have all of a closed shard on the disk."""
    for path in shard.rglob("*"):
        if path.is_file():
            sync(path)
    sync_folders(shard)


def sync_folders(shard: Path) -> None:
    """Have the names of a shard's files on the disk."""
    for path in (shard, *shard.rglob("*")):
        if path.is_dir():
            sync(path)


def open_shard(folder: Path, card: Card, exact_up_to: int) -> qdrant.EdgeShard:
    """Load the shard that the card names, made first where there is none.

    Remnants of a process that was killed are deleted.

    Args:
        exact_up_to: vectors of a label space up to which it has no graph.

    Raises:
        IndexMismatch: as `check_shard`.
    """
    path = folder / card.shard
    check_shard(folder, card)
    remove_others(folder, card)
    if not path.exists():
        new = folder / f"{_SHARD}.new"  # it gets its name when it is complete
        shutil.rmtree(new, ignore_errors=True)  # of a process that was killed here
        new.mkdir()
        made = library(qdrant.EdgeShard.create, str(new), _config(exact_up_to))
        library(made.flush)
        library(made.close)
        new.rename(path)
    shard = library(qdrant.EdgeShard.load, str(path), _config(exact_up_to))
    _index_fields(shard)
    return shard


def check_room(folder: Path) -> None:
    """Refuse to write where the disk is almost full.

    The library writes to files that are mapped into memory and have no room on the disk of their
    own: where there is none when a page is first written, the kernel kills the process.

    Raises:
        DemonstrationsUnavailable: there is too little room.
    """
    if shutil.disk_usage(folder).free < ROOM_BYTES:
        raise DemonstrationsUnavailable("the disk has no room for more demonstrations")


def new_path(folder: Path) -> Path:
    """Where a shard may be made that is to take the place of the one that the card names."""
    return folder / f"{_SHARD}-{uuid.uuid4()}"


def rewrite(source: qdrant.EdgeShard, target: Path, exact_up_to: int) -> Iterator[None]:
    """Fill a new shard with the rows that another one has, some at each step; then it is closed.

    What is deleted is in none of its files, as it is in those of the source, whose log is kept for
    long, and in a copy of them. Rows that are written to the source meanwhile may be missing.

    Raises:
        DemonstrationsUnavailable: there is no room, or the library failed.
    """
    check_room(target.parent)
    target.mkdir()
    shard = library(qdrant.EdgeShard.create, str(target), _config(exact_up_to))
    unflushed, offset = 0, None
    try:
        _index_fields(shard)
        while True:
            wanted = qdrant.ScrollRequest(
                offset=offset, limit=_ROWS_A_STEP, with_payload=True, with_vector=True
            )
            records, offset = library(source.scroll, wanted)
            points = [
                qdrant.Point(each.id, cast(list[float], each.vector), each.payload)
                for each in records
            ]
            check_room(target.parent)
            library(shard.update, qdrant.UpdateOperation.upsert_points(points))
            if offset is None:
                break
            unflushed += len(points)
            if unflushed >= FLUSH_AFTER:
                library(shard.flush)
                unflushed = 0
            yield
        library(shard.flush)
    finally:
        library(shard.close)


def remove(shard: Path) -> None:
    """Delete a shard's files; the log says so where some are left."""
    for _ in range(2):  # the library may make one more file for its log while this goes on
        shutil.rmtree(shard, ignore_errors=True)
    if shard.exists():
        log.warning("%s is of no use and cannot be deleted", shard)


def remove_others(folder: Path, card: Card) -> None:
    """Delete what is left of shards that the card does not name."""
    for path in shards(folder):
        if path.name != card.shard:
            remove(path)


def copy_shard(shard: Path, copy: Path) -> None:
    """Copy a shard that is open, flushed and not written meanwhile; the copy is on the disk."""

    def copy_file(source: str, target: str) -> None:
        # The library makes its log's next file in the background, renames it, and needs it not.
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, target)
            sync(Path(target))

    try:
        shutil.copytree(shard, copy, copy_function=copy_file)
        sync_folders(copy)
    except BaseException:  # the disk is full, as a rule, and must not stay so
        shutil.rmtree(copy, ignore_errors=True)
        raise


def _index_fields(shard: qdrant.EdgeShard) -> None:
    """Index the fields that are searched by; does nothing where there are these very indices."""
    for field, index in _FIELDS.items():
        library(shard.update, qdrant.UpdateOperation.create_field_index(field, index))


def _again(folder: Path) -> str:
    return f"delete {folder} to build it again"


# Each label space has graphs of its own. One graph for all, searched by label space, found 0.91 of
# the nearest four where half of 50,000 demonstrations were of the label space.
_FIELDS = {
    LABEL_SPACE: qdrant.KeywordIndexParams(is_tenant=True),
    EDITION: qdrant.KeywordIndexParams(enable_hnsw=False),
    TENANT: qdrant.KeywordIndexParams(enable_hnsw=False),
    KIND: qdrant.KeywordIndexParams(enable_hnsw=False),
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
        # One byte a number: graphs are built and searched on these in half the time.
        quantization_config=qdrant.ScalarQuantizationConfig(
            qdrant.ScalarType.Int8, memory=qdrant.Memory.Pinned
        ),
        optimizers=qdrant.EdgeOptimizersConfig(
            indexing_threshold=kilobytes(exact_up_to),
            default_segment_number=1,  # a search goes through every segment's graph
        ),
    )
