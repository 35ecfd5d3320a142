"""What only the embedded store has: a folder, one process at a time, kill -9."""

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vectors
from service.demonstrations.qdrant_edge.store import open_edge
from service.errors import DemonstrationsUnavailable

Vectorise = Callable[[int, int], Vectors]

ENCODER = "reference@00000000"
ROW = Demonstration("a", "meld", "joy", "We won!")

# Writes rows one by one and prints the id of each that is acknowledged.
WRITER = f"""
import asyncio, itertools, sys
from pathlib import Path
import numpy as np
from service.conversation.dialogue import Demonstration
from service.demonstrations.qdrant_edge.store import open_edge

async def main():
    store = await open_edge(Path(sys.argv[1]), {ENCODER!r})
    for n in itertools.count():
        row = Demonstration(f"row-{{n}}", "meld", "joy", f"line {{n}}")
        await store.add([row], np.eye(384, dtype=np.float32)[[n % 384]])
        print(row.id, flush=True)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def writer(folder: Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(folder), stdin=DEVNULL, stdout=PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_acknowledged_rows_survive_a_kill(tmp_path: Path) -> None:
    """SIGKILL in mid-write loses no row whose `add` had returned."""
    async with writer(tmp_path / "index") as process:
        assert process.stdout is not None
        acknowledged = [await process.stdout.readline() for _ in range(40)]
        process.kill()
        acknowledged += (await process.stdout.read()).splitlines()

    store = await open_edge(tmp_path / "index", ENCODER)

    for line in acknowledged:
        row = await store.get(line.decode().strip())
        assert row.text == f"line {row.id.removeprefix('row-')}"
    # The write that was cut off may have come through.
    assert await store.count() - len(acknowledged) in (0, 1)
    await store.close()


async def test_folder_of_another_process_is_refused(tmp_path: Path) -> None:
    """The error names the folder; once the other process has ended it opens."""
    folder = tmp_path / "index"
    async with writer(folder) as process:
        assert process.stdout is not None
        await process.stdout.readline()

        with pytest.raises(DemonstrationsUnavailable, match=f"{folder} is open in another process"):
            await open_edge(folder, ENCODER)

    await (await open_edge(folder, ENCODER)).close()


async def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The error names it."""
    path = tmp_path / "index"
    path.write_text("")

    with pytest.raises(DemonstrationsUnavailable, match=f"cannot use {path}"):
        await open_edge(path, ENCODER)


async def test_damaged_shard_is_reported_with_its_folder(tmp_path: Path) -> None:
    """And the folder is not left locked: after a repair it opens in the same process."""
    await (await open_edge(tmp_path, ENCODER)).close()
    config = tmp_path / "shard" / "edge_config.json"
    intact = config.read_bytes()
    config.write_bytes(intact[:10])

    with pytest.raises(DemonstrationsUnavailable, match=f"cannot open the index in {tmp_path}"):
        await open_edge(tmp_path, ENCODER)

    config.write_bytes(intact)
    await (await open_edge(tmp_path, ENCODER)).close()


async def test_failure_of_the_library_is_our_error(tmp_path: Path, unit_vectors: Vectorise) -> None:
    """A shard that has gone away under the store raises DemonstrationsUnavailable, with its cause.

    The library's own handle is closed to bring this about.
    """
    store = await open_edge(tmp_path, ENCODER)
    store._index._shard.close()

    with pytest.raises(DemonstrationsUnavailable, match="does not answer") as caught:
        await store.add([ROW], unit_vectors(1, 1))

    assert caught.value.__cause__ is not None
    with pytest.raises(DemonstrationsUnavailable, match="does not answer"):
        await store.ping()
    await store.close()  # all that was added is in the log
    again = await open_edge(tmp_path, ENCODER)
    assert await again.count() == 0
    await again.close()


async def test_a_mistake_in_a_call_is_not_taken_for_a_failure_of_the_library(
    tmp_path: Path, unit_vectors: Vectorise
) -> None:
    """It surfaces as the mistake it is."""
    store: Any = await open_edge(tmp_path, ENCODER)

    with pytest.raises(TypeError):
        await store.count(object)
    with pytest.raises(TypeError):
        await store.nearest(unit_vectors(1, 1)[0], "meld", 4, object)
    await store.close()


async def test_a_failure_is_logged_once_with_its_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not for each call while it goes on."""
    store = await open_edge(tmp_path, ENCODER)
    store._index._shard.close()

    for _ in range(3):
        with pytest.raises(DemonstrationsUnavailable):
            await store.count()

    assert caplog.text.count("the demonstration index fails: Exception: Service runtime error") == 1
    await store.close()


async def test_nothing_is_written_to_a_disk_that_is_almost_full(
    tmp_path: Path, unit_vectors: Vectorise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel would kill the process. What is there is found."""
    store = await open_edge(tmp_path, ENCODER)
    await store.add([ROW], unit_vectors(1, 1))
    monkeypatch.setattr("service.demonstrations.qdrant_edge.disk.ROOM_BYTES", 2**62)

    with pytest.raises(DemonstrationsUnavailable, match="the disk is too full"):
        await store.add([replace(ROW, id="b")], unit_vectors(1, 2))
    with pytest.raises(DemonstrationsUnavailable, match="the disk is too full"):
        await store.delete("a")

    assert [row.id for row in (await store.list()).demonstrations] == ["a"]
    monkeypatch.undo()
    await store.add([replace(ROW, id="b")], unit_vectors(1, 2))
    await store.close()


async def test_the_folder_of_an_index_is_nobody_elses(tmp_path: Path) -> None:
    """Whatever the process's umask; one that is there stays as it is."""
    (tmp_path / "there").mkdir(mode=0o755)
    for name, mode in (("new/index", 0o700), ("there", 0o755)):
        store = await open_edge(tmp_path / name, ENCODER)
        await store.close()

        assert (tmp_path / name).stat().st_mode & 0o777 == mode
