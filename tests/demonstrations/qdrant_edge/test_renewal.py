"""What deletions leave in an embedded index's files: nothing, after a while that is known.

The files are searched for the bytes of the text, so whatever the library keeps would be found.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vectors
from service.demonstrations.qdrant_edge import renewal
from service.demonstrations.qdrant_edge.index import Index
from service.demonstrations.qdrant_edge.shard import rewrite
from service.demonstrations.qdrant_edge.store import EdgeStore, open_edge
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable
from tests.clock import PATIENT_S, Clock
from tests.demonstrations.qdrant_edge.settling import settle

Vectorise = Callable[[int, int], Vectors]

ENCODER = "reference@00000000"
FEW = 300  # rows that need no graph
LONG_S = 3_600.0
SECRET = "zebras at the ministry"
OTHER = "a quiet evening"


def rows(name: str, n: int) -> list[Demonstration]:
    return [Demonstration(f"{name}-{i}", "meld", "joy", f"{name} {i}") for i in range(n)]


def secret(demonstration_id: str = "secret") -> Demonstration:
    return Demonstration(demonstration_id, "meld", "joy", SECRET)


def holding(folder: Path, *texts: str) -> list[str]:
    """The files that hold one of some texts, SECRET where none is given."""
    wanted = re.compile(b"|".join(re.escape(text.encode()) for text in texts or (SECRET,)))
    files = []
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if wanted.search(path.read_bytes()):
                    files.append(str(path.relative_to(folder)))
    return files


def shards(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("shard*")]


def is_stale(folder: Path) -> bool:
    stale: bool = json.loads((folder / "index.json").read_text())["stale"]
    return stale


async def become_clean(folder: Path) -> None:
    async with asyncio.timeout(PATIENT_S):
        while holding(folder):  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.05)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    """With an hour to gather deletions: nothing is rewritten unless a test says so."""
    store = await open_edge(tmp_path, ENCODER, FEW, gathered_s=LONG_S)
    yield store
    await store.close()


class Rewritings:
    """Counts the rewritings, and holds each before its last step while `opened` is not set."""

    def __init__(self) -> None:
        self.count = 0
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.opened.set()


@pytest.fixture
def rewritings(monkeypatch: pytest.MonkeyPatch) -> Rewritings:
    counter = Rewritings()

    def counted(*arguments: Any) -> Iterator[None]:
        counter.count += 1
        yield from rewrite(*arguments)
        counter.reached.set()
        while not counter.opened.is_set():
            yield

    monkeypatch.setattr("service.demonstrations.qdrant_edge.index.rewrite", counted)
    return counter


@pytest.mark.parametrize("tenant", [None, "one"])
async def test_deleted_text_is_in_no_file(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise, tenant: str | None
) -> None:
    """What is left is found as before, also when the index is opened again."""
    vectors = unit_vectors(101, 1)
    await store.add(rows("row", 100), vectors[:100], edition="one")
    await store.finish_edition("one")
    await store.add([secret()], vectors[100:], tenant=tenant)
    assert holding(tmp_path)

    await store.delete("secret", tenant)
    await settle(store)

    assert holding(tmp_path) == []
    for _ in range(2):
        assert await store.count() == 100
        assert await store.edition() == "one"
        (first,) = await store.nearest(vectors[42], "meld", k=1)
        assert first.demonstration.id == "row-42"
        assert first.similarity == pytest.approx(1.0, abs=1e-5)
        await store.close()
        store = await open_edge(tmp_path, ENCODER, FEW)
    await store.close()
    assert len(shards(tmp_path)) == 1


async def test_replaced_text_is_in_no_file(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise
) -> None:
    """The new one is."""
    await store.add([secret("a")], unit_vectors(1, 1), tenant="one")
    await store.add([Demonstration("a", "meld", "joy", OTHER)], unit_vectors(1, 2), tenant="one")

    await settle(store)

    assert holding(tmp_path) == []
    assert holding(tmp_path, OTHER)
    assert (await store.get("a", "one")).text == OTHER


async def test_an_edition_that_is_dropped_is_in_no_file(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise
) -> None:
    """Whether its rows are replaced or deleted."""
    old = [secret("a"), secret("b")]
    await store.add(old, unit_vectors(2, 1), edition="one")
    await store.finish_edition("one")
    await store.add([Demonstration("a", "meld", "joy", OTHER)], unit_vectors(1, 2), edition="two")
    await store.finish_edition("two")

    await settle(store)

    assert holding(tmp_path) == []
    assert await store.count() == 1


async def test_additions_and_the_same_row_again_rewrite_nothing(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise, rewritings: Rewritings
) -> None:
    """There is nothing in the files that is not in the index."""
    for _ in range(2):
        await store.add(rows("row", 5), unit_vectors(5, 1), edition="one")
        await store.finish_edition("one")
        await settle(store)

    assert rewritings.count == 0
    assert not is_stale(tmp_path)


async def test_deletions_are_gathered_and_rewritten_at_once(
    tmp_path: Path, unit_vectors: Vectorise, rewritings: Rewritings, clock: Clock
) -> None:
    """After the time that they are gathered for, without anybody's asking."""
    store = await open_edge(tmp_path, ENCODER, gathered_s=LONG_S)
    await store.add([secret(f"secret-{n}") for n in range(20)], unit_vectors(20, 1))

    for number in range(20):
        await store.delete(f"secret-{number}")
    assert rewritings.count == 0
    await clock.skip(LONG_S)

    await become_clean(tmp_path)
    assert rewritings.count == 1
    await store.close()


async def test_closing_leaves_no_deleted_text(tmp_path: Path, unit_vectors: Vectorise) -> None:
    """Though the time to gather deletions is not over."""
    store = await open_edge(tmp_path, ENCODER, gathered_s=LONG_S)
    await store.add([secret(), *rows("row", 3)], unit_vectors(4, 1))
    await store.delete("secret")
    assert is_stale(tmp_path)

    await store.close()

    assert holding(tmp_path) == []
    assert not is_stale(tmp_path)
    store = await open_edge(tmp_path, ENCODER)
    assert await store.count() == 3
    await store.close()


async def test_an_index_that_does_not_say_is_rewritten_when_it_is_opened(
    tmp_path: Path, unit_vectors: Vectorise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card is older than rewriting, so what was deleted then is in its files."""
    with monkeypatch.context() as patch:
        patch.setattr(Index, "_rewrite_now", lambda _: None)
        store = await open_edge(tmp_path, ENCODER, gathered_s=LONG_S)
        await store.add([secret(), *rows("row", 3)], unit_vectors(4, 1))
        await store.delete("secret")
        await store.close()
    card = tmp_path / "index.json"
    card.write_text(json.dumps({"encoder": ENCODER, "edition": None, "shard": "shard"}))
    assert holding(tmp_path)

    store = await open_edge(tmp_path, ENCODER)

    assert holding(tmp_path) == []
    assert await store.count() == 3
    await store.close()


async def test_store_answers_and_keeps_what_is_written_while_it_is_rewritten(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise, rewritings: Rewritings
) -> None:
    """What is deleted meanwhile leaves the files with the next rewriting."""
    vectors = unit_vectors(203, 1)
    await store.add([*rows("row", 200), secret(), secret("later")], vectors[:202])
    await store.delete("secret")
    rewritings.opened.clear()
    settling = asyncio.create_task(settle(store))
    async with asyncio.timeout(PATIENT_S):
        await rewritings.reached.wait()

    await store.add(rows("meanwhile", 1), vectors[202:])
    await store.delete("later")
    (first,) = await store.nearest(vectors[7], "meld", k=1)
    assert first.demonstration.id == "row-7"
    assert not settling.done()
    rewritings.opened.set()
    await settling

    async def check(store: EdgeStore) -> None:
        (first,) = await store.nearest(vectors[202], "meld", k=1)
        assert first.demonstration.id == "meanwhile-0"
        assert await store.count() == 201
        for gone in ("secret", "later"):
            with pytest.raises(DemonstrationNotFound):
                await store.get(gone)

    await check(store)
    assert is_stale(tmp_path)
    await settle(store)
    assert holding(tmp_path) == []
    await check(store)
    await store.close()
    again = await open_edge(tmp_path, ENCODER, FEW)
    await check(again)
    await again.close()


async def test_closing_in_the_middle_of_a_rewriting_loses_nothing(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise, rewritings: Rewritings
) -> None:
    """It is begun anew, and the half-made one is gone."""
    await store.add([*rows("row", 200), secret()], unit_vectors(201, 1))
    await store.delete("secret")
    rewritings.opened.clear()
    settling = asyncio.create_task(settle(store))
    async with asyncio.timeout(PATIENT_S):
        await rewritings.reached.wait()
    settling.cancel()
    rewritings.opened.set()

    await store.close()

    assert holding(tmp_path) == []
    assert len(shards(tmp_path)) == 1
    again = await open_edge(tmp_path, ENCODER, FEW)
    assert await again.count() == 200
    await again.close()


async def test_large_index_is_rewritten_with_its_graphs(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise
) -> None:
    """And then holds no deleted text either."""
    vectors = unit_vectors(1_001, 5)
    await store.add([*rows("row", 1_000), secret()], vectors, edition="one")
    await store.finish_edition("one")

    await store.delete("secret")
    assert holding(tmp_path)
    await settle(store)

    assert holding(tmp_path) == []
    assert int(store._index._shard.info().indexed_vectors_count) >= 1_000
    (first,) = await store.nearest(vectors[17], "meld", k=1)
    assert first.demonstration.id == "row-17"


async def test_large_index_is_rewritten_beside_serving_when_it_is_opened_again(
    tmp_path: Path, unit_vectors: Vectorise
) -> None:
    """It would take minutes to end, and to begin."""
    store = await open_edge(tmp_path, ENCODER, FEW, gathered_s=LONG_S)
    await store.add([*rows("row", 1_000), secret()], unit_vectors(1_001, 5))
    await store.delete("secret")
    await store.close()
    assert holding(tmp_path)

    store = await open_edge(tmp_path, ENCODER, FEW, gathered_s=0.0)

    assert await store.count() == 1_000
    await become_clean(tmp_path)
    await store.close()


async def test_rewriting_waits_for_room_on_the_disk(
    tmp_path: Path, store: EdgeStore, unit_vectors: Vectorise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index goes on as it is, and no half-made one takes up room."""
    await store.add([secret(), *rows("row", 3)], unit_vectors(4, 1))
    await store.delete("secret")
    monkeypatch.setattr("service.demonstrations.qdrant_edge.disk.ROOM_BYTES", 2**62)

    with pytest.raises(DemonstrationsUnavailable, match="disk is too full"):
        await settle(store)

    assert await store.count() == 3
    assert shards(tmp_path) == ["shard"]
    assert is_stale(tmp_path)
    monkeypatch.undo()
    await settle(store)
    assert holding(tmp_path) == []


async def test_rewriting_that_fails_is_tried_again_and_the_log_says_why(
    tmp_path: Path,
    unit_vectors: Vectorise,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not as an error of whoever deleted."""
    monkeypatch.setattr(renewal, "_AGAIN_AFTER_S", 0.05)
    left = [PermissionError(13, "Permission denied")]

    def fails_once(_: Path) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(renewal, "sync_files", fails_once)
    store = await open_edge(tmp_path, ENCODER, gathered_s=0.0)
    await store.add([secret()], unit_vectors(1, 1))

    await store.delete("secret")

    await become_clean(tmp_path)
    assert "PermissionError: [Errno 13] Permission denied" in caplog.text
    await store.close()


# Adds two rows and deletes one of them, again and again, and prints what has been acknowledged.
CHANGER = f"""
import asyncio, itertools, sys
from pathlib import Path
import numpy as np
from service.conversation.dialogue import Demonstration
from service.demonstrations.qdrant_edge.store import open_edge

async def main():
    store = await open_edge(Path(sys.argv[1]), {ENCODER!r}, gathered_s=0.0)
    vector = np.eye(384, dtype=np.float32)
    for n in itertools.count():
        kept, gone = (Demonstration(f"{{name}}-{{n}}", "meld", "joy", f"{{name}} of {{n}}.")
                      for name in ("kept", "gone"))
        await store.add([kept, gone], vector[[n % 384, (n + 1) % 384]])
        print("added", n, flush=True)
        await store.delete(gone.id)
        print("deleted", n, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(6))
async def test_a_kill_at_any_moment_loses_nothing_and_leaves_no_deleted_text(
    tmp_path: Path, seed: int
) -> None:
    """What was acknowledged is there, or gone, when the index is opened again."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHANGER, str(tmp_path), stdin=DEVNULL, stdout=PIPE
    )
    assert process.stdout is not None
    output = [await process.stdout.readline()]
    await asyncio.sleep(random.Random(seed).uniform(0.2, 1.0))
    process.kill()
    rest = (await process.stdout.read()).splitlines(keepends=True)
    output += [line for line in rest if line.endswith(b"\n")]
    await process.wait()

    store = await open_edge(tmp_path, ENCODER)

    done = [line.decode().split() for line in output]
    added, deleted = ([n for what, n in done if what == wanted] for wanted in ("added", "deleted"))
    kept = await store.texts([f"kept-{n}" for n in added])
    assert kept == {f"kept-{n}": f"kept of {n}." for n in added}
    assert await store.texts([f"gone-{n}" for n in deleted]) == {}
    assert holding(tmp_path, *(f"gone of {n}." for n in deleted)) == []
    await store.close()
