"""The folders of shards, finished and not, beside what is not one."""

import errno
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vectors
from service.demonstrations.qdrant_edge.shard import copy_shard
from service.demonstrations.qdrant_edge.store import open_edge

Vectorise = Callable[[int, int], Vectors]

ENCODER = "reference@00000000"
ROW = Demonstration("a", "meld", "joy", "We won!")


async def test_shard_that_a_killed_process_left_unfinished_is_made_again(
    tmp_path: Path, unit_vectors: Vectorise
) -> None:
    """It has no name yet, so nothing in it was ever acknowledged."""
    unfinished = tmp_path / "shard.new"
    unfinished.mkdir()
    (unfinished / "edge_config.json").write_text("{")

    store = await open_edge(tmp_path, ENCODER)
    await store.add([ROW], unit_vectors(1, 1))

    assert await store.get("a") == ROW
    assert not unfinished.exists()
    await store.close()


async def test_what_a_user_put_beside_the_shard_stays(tmp_path: Path) -> None:
    """Such as a copy of it; what a killed process left of its own copies goes."""
    await (await open_edge(tmp_path, ENCODER)).close()
    mine = tmp_path / "shard-backup"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    left = tmp_path / f"shard-{uuid.uuid4()}"
    left.mkdir()

    await (await open_edge(tmp_path, ENCODER)).close()

    assert (mine / "notes.txt").read_text() == "mine"
    assert not left.exists()


def copies_in(folder: Path) -> list[Path]:
    return [*folder.glob("shard-*")]


async def test_a_copy_that_cannot_be_finished_leaves_the_disk_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would stay full."""
    store = await open_edge(tmp_path, ENCODER)
    await store.close()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("service.demonstrations.qdrant_edge.shard.sync", full)
    with pytest.raises(OSError, match="No space left"):
        copy_shard(tmp_path / "shard", tmp_path / "shard-copy")

    assert copies_in(tmp_path) == []
