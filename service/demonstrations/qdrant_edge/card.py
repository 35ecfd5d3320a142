"""The folder of an embedded index: its card, and the names of its shards.

The folder holds `index.json`, the card, which names the encoder, and a folder `shard...`, which the
card names too.
"""

import json
import os
import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from service.demonstrations.qdrant_edge.disk import sync
from service.demonstrations.store import IndexMismatch

_CARD = "index.json"
_SHARD = "shard"
# The name of the first shard until it is complete.
UNFINISHED = f"{_SHARD}.new"
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


def new_path(folder: Path) -> Path:
    """A new path for a shard that is to replace the card's."""
    return folder / f"{_SHARD}-{uuid.uuid4()}"


def _again(folder: Path) -> str:
    return f"delete {folder} to build it again"
