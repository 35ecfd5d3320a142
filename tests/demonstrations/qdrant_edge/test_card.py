"""What the card of an embedded index says, and what its absence does."""

import os
import shutil
import uuid
from pathlib import Path

import pytest

from service.demonstrations.qdrant_edge.store import open_edge
from service.demonstrations.store import IndexMismatch

ENCODER = "reference@00000000"


async def test_index_without_its_card_is_refused(tmp_path: Path) -> None:
    """Without `index.json` nobody knows which encoder built it; nothing is deleted."""
    await (await open_edge(tmp_path, ENCODER)).close()
    card = (tmp_path / "index.json").read_bytes()
    (tmp_path / "index.json").unlink()

    with pytest.raises(IndexMismatch, match=r"index\.json is missing"):
        await open_edge(tmp_path, ENCODER)

    (tmp_path / "index.json").write_bytes(card)
    await (await open_edge(tmp_path, ENCODER)).close()


@pytest.mark.parametrize("card", ["", "{", "[]", '{"mood": "good"}', '{"encoder": 1, "x": 2}'])
async def test_broken_card_is_refused(tmp_path: Path, card: str) -> None:
    """It is not taken for a new index."""
    await (await open_edge(tmp_path, ENCODER)).close()
    (tmp_path / "index.json").write_text(card)

    with pytest.raises(IndexMismatch, match=r"index\.json is not an index card"):
        await open_edge(tmp_path, ENCODER)


@pytest.mark.parametrize("another", [True, False])
async def test_an_index_whose_shard_is_lost_is_not_taken_for_a_filled_one(
    tmp_path: Path, another: bool
) -> None:
    """Its card says that an edition is loaded: an empty shard would be served as that."""
    store = await open_edge(tmp_path, "encoder")
    await store.finish_edition("one")
    await store.close()
    if another:
        (tmp_path / "shard").rename(tmp_path / f"shard-{uuid.uuid4()}")
    else:
        shutil.rmtree(tmp_path / "shard")
    before = list(os.walk(tmp_path))

    with pytest.raises(IndexMismatch, match=r"index\.json names shard, but .* put it back, or del"):
        await open_edge(tmp_path, "encoder")

    assert list(os.walk(tmp_path)) == before
