"""An embedded index on the disk: its folder, its card, and Qdrant's own part, the shard.

The folder holds `index.json`, the card, and a folder `shard...`, which the card names.
"""

import contextlib
import json
import os
import re
import shutil
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import qdrant_edge as qdrant

from service.demonstrations.encoder import DIMENSIONS
from service.demonstrations.points import (
    CANDIDATES_OF_A_BUILD,
    EDGES,
    EDITION,
    LABEL_SPACE,
    TENANT,
    kilobytes,
)
from service.demonstrations.store import IndexMismatch
from service.errors import DemonstrationsUnavailable

# As much as a portion of rows takes in the log and, when that is flushed, in the segments, several
# times over.
ROOM_BYTES = 64 * 2**20

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
    """

    encoder: str
    edition: str | None = None
    shard: str = _SHARD


def read_card(folder: Path, encoder_identity: str) -> Card:
    """The card of an index that this encoder built, or of a new one.

    Raises:
        IndexMismatch: another encoder built it, or the card is missing or broken.
    """
    path = folder / _CARD
    again = _again(folder)
    try:
        card = Card(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if _shards(folder):
            raise IndexMismatch(f"{path} is missing: no telling what built it; {again}") from None
        card = Card(encoder_identity)
        # Before the shard is made, so that there is never a shard without it.
        write_card(folder, card)
    except (ValueError, TypeError) as error:
        raise IndexMismatch(f"{path} is not an index card: {error}; {again}") from None
    if card.encoder != encoder_identity:
        raise IndexMismatch(
            f"{folder} was built with {card.encoder}, the encoder is {encoder_identity}; {again}"
        )
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


def open_shard(folder: Path, card: Card, exact_up_to: int) -> qdrant.EdgeShard:
    """Load the shard that the card names, made first where there is none.

    Remnants of a process that was killed are deleted.

    Args:
        exact_up_to: vectors of a label space up to which it has no graph.

    Raises:
        IndexMismatch: there is another shard, but not the one that the card names.
    """
    path = folder / card.shard
    others = [found for found in _shards(folder) if found != path]
    if others and not path.exists():
        raise IndexMismatch(
            f"{folder / _CARD} names {card.shard}, {others[0]} is there: another "
            f"index's card? {_again(folder)}"
        )
    for other in others:
        shutil.rmtree(other, ignore_errors=True)
    config = _config(exact_up_to)
    if not path.exists():
        new = folder / f"{_SHARD}.new"  # it gets its name when it is complete
        shutil.rmtree(new, ignore_errors=True)  # of a process that was killed here
        new.mkdir()
        made = qdrant.EdgeShard.create(str(new), config)
        made.flush()
        made.close()
        new.rename(path)
    shard = qdrant.EdgeShard.load(str(path), config)
    for field, index in _FIELDS.items():  # does nothing where there is this very index
        shard.update(qdrant.UpdateOperation.create_field_index(field, index))
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


def copy_shard(shard: Path) -> Path:
    """Copy a shard that is open, flushed and not written meanwhile; the copy is on the disk."""
    copy = shard.with_name(f"{_SHARD}-{uuid.uuid4()}")

    def copy_file(source: str, target: str) -> None:
        # The library makes its log's next file in the background, renames it, and needs it not.
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(source, target)
            sync(Path(target))

    try:
        shutil.copytree(shard, copy, copy_function=copy_file)
        for path in (copy, *copy.rglob("*")):
            if path.is_dir():
                sync(path)
    except BaseException:  # the disk is full, as a rule, and must not stay so
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return copy


def _shards(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]


def _again(folder: Path) -> str:
    return f"delete {folder} to build it again"


# Each label space has graphs of its own. One graph for all, searched by label space, found 0.91 of
# the nearest four where half of 50,000 demonstrations were of the label space.
_FIELDS = {
    LABEL_SPACE: qdrant.KeywordIndexParams(is_tenant=True),
    EDITION: qdrant.KeywordIndexParams(enable_hnsw=False),
    TENANT: qdrant.KeywordIndexParams(enable_hnsw=False),
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
