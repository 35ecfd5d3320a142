"""What only a large embedded index has: graphs, and the process that builds them.

Large is a matter of `exact_up_to`, so a few hundred rows do.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import Vectors
from service.demonstrations.qdrant_edge import renewal
from service.demonstrations.qdrant_edge.graph import GraphNotBuilt, build_graphs
from service.demonstrations.qdrant_edge.renewal import Renewal
from service.demonstrations.qdrant_edge.store import EdgeStore, open_edge
from service.demonstrations.store import IndexMismatch
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable
from tests.clock import PATIENT_S
from tests.demonstrations.qdrant_edge.settling import settle

Vectorise = Callable[[int, int], Vectors]

ENCODER = "reference@00000000"
FEW = 300  # rows that need no graph


def rows(name: str, n: int, label_space: str = "meld") -> list[Demonstration]:
    return [Demonstration(f"{name}-{i}", label_space, "joy", f"{name} {i}") for i in range(n)]


@pytest.fixture(scope="session")
def related_vectors(unit_vectors: Vectorise) -> Vectorise:
    """Makes n vectors that lie about 40 topics, as those of sentences do."""
    topics = unit_vectors(40, 0)

    def make(n: int, seed: int) -> Vectors:
        rng = np.random.default_rng(seed)
        vectors = topics[rng.integers(0, len(topics), n)] + 0.8 * unit_vectors(n, seed)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    return make


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    store = await open_edge(tmp_path, ENCODER, FEW)
    yield store
    await store.close()


async def test_the_renewal_s_log_names_no_request(
    store: EdgeStore,
    related_vectors: Vectorise,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that began it may long be answered when it fails."""
    request = ContextVar("request", default="none")
    seen = []

    async def renew(_: Renewal) -> None:
        seen.append(request.get())

    monkeypatch.setattr(Renewal, "renew", renew)
    request.set("a request")
    await store.add(rows("own", FEW + 1), related_vectors(FEW + 1, 1))

    assert seen == ["none"]


async def load(store: EdgeStore, related_vectors: Vectorise) -> Vectors:
    """Have 2,000 rows of meld in graphs, beside 200 of iemocap; returns meld's vectors."""
    vectors = related_vectors(2_200, 1)
    demonstrations = rows("meld", 2_000) + rows("iemocap", 200, "iemocap")
    await store.add(demonstrations, vectors, edition="one")
    await store.finish_edition("one")
    return vectors[:2_000]


def in_graphs(store: EdgeStore) -> int:
    """How many rows are in an indexed part of the shard."""
    return int(store._index._shard.info().indexed_vectors_count)


def edges(folder: Path) -> int:
    """How many bytes the graphs' edges take up."""
    return sum(path.stat().st_size for path in folder.glob("shard*/segments/*/*/links*.bin"))


def shards(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("shard*")]


def segments(folder: Path) -> set[str]:
    """The parts of the index; one that is built anew has another name."""
    return {path.parent.name for path in folder.glob("shard*/segments/*/segment.json")}


class Watched:
    """A shard that notes for each search whether it looks at every vector."""

    def __init__(self, shard: Any) -> None:
        self.exhaustive: list[bool] = []
        self._shard = shard

    def query(self, request: Any) -> Any:
        self.exhaustive.append(request.params.exact)
        return self._shard.query(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shard, name)


class Gate:
    """Holds the building of graphs until it is let go.

    Attributes:
        reached: set when graphs are about to be built; `reach` waits for it, in vain not for ever.
        opened: to be set, for them to be built.
    """

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def reach(self) -> None:
        async with asyncio.timeout(PATIENT_S):
            await self.reached.wait()

    async def build(self, shard: Path) -> None:
        self.reached.set()
        await self.opened.wait()
        await build_graphs(shard)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    gate = Gate()
    monkeypatch.setattr(renewal, "build_graphs", gate.build)
    return gate


async def test_large_label_space_is_searched_nearly_as_well_as_exhaustively(
    store: EdgeStore, related_vectors: Vectorise
) -> None:
    """Of the four nearest to each of 200 queries at most one in a hundred is missed."""
    vectors = await load(store, related_vectors)
    assert in_graphs(store) == 2_200
    queries = related_vectors(200, 2)

    results = [await store.nearest(query, "meld", k=4) for query in queries]

    nearest = np.sort(queries @ vectors.T)[:, -4:]
    similarities = np.array([[m.similarity for m in matches] for matches in results])
    hits = similarities >= nearest[:, :1] - 1e-5
    assert hits.mean() >= 0.99
    # Compared by full vectors in the end, so the cosines are exact and the best is first.
    assert similarities[hits.all(axis=1)] == pytest.approx(
        nearest[hits.all(axis=1), ::-1], abs=1e-5
    )


async def test_small_label_space_beside_a_large_one_is_searched_exactly(
    store: EdgeStore, related_vectors: Vectorise
) -> None:
    """All 200 rows in the right order, though they lie where others have a graph."""
    await load(store, related_vectors)
    vectors = related_vectors(2_200, 1)[2_000:]

    for query in related_vectors(5, 3):
        matches = await store.nearest(query, "iemocap", k=200)

        order = np.argsort(-(vectors @ query))
        assert [m.demonstration.id for m in matches] == [f"iemocap-{i}" for i in order]


async def test_large_label_space_is_searched_through_its_graph_and_a_small_one_without(
    store: EdgeStore, related_vectors: Vectorise
) -> None:
    """By the number of its own rows, at the time."""
    vectors = await load(store, related_vectors)
    watched: Any = Watched(store._index._shard)
    store._index._shard = watched

    for space in ("meld", "iemocap", "nowhere"):
        await store.nearest(vectors[0], space, k=4)
    await store.add(rows("more", 101, "iemocap"), vectors[:101])
    await store.nearest(vectors[0], "iemocap", k=4)

    assert watched.exhaustive == [False, True, True, False]


async def test_graphs_are_made_of_large_label_spaces_only(
    tmp_path: Path, related_vectors: Vectorise
) -> None:
    """However many rows there are in all; editions, which are indexed too, have none."""
    spread, gathered = tmp_path / "spread", tmp_path / "gathered"
    vectors = related_vectors(2 * FEW, 1)
    for folder, other in ((spread, "iemocap"), (gathered, "meld")):
        store = await open_edge(folder, ENCODER, FEW)
        demonstrations = rows("one", FEW) + rows("other", FEW, other)
        await store.add(demonstrations, vectors, edition="one")
        await store.finish_edition("one")
        await store.close()

    assert edges(gathered) > 2 * FEW * 16  # at least
    assert edges(spread) < edges(gathered) / 4


async def test_graph_of_a_label_space_gives_none_of_another(
    store: EdgeStore, related_vectors: Vectorise
) -> None:
    """Also where the nearest vectors of all are of the other one."""
    vectors = related_vectors(800, 1)
    twins = rows("meld", 400) + rows("unified", 400, "unified")
    await store.add(twins, np.concatenate([vectors[:400], vectors[:400]]), edition="one")
    await store.finish_edition("one")

    for number in (3, 77, 311):
        for space in ("meld", "unified"):
            matches = await store.nearest(vectors[number], space, k=4)

            assert matches[0].demonstration.id == f"{space}-{number}"
            assert {m.demonstration.label_space for m in matches} == {space}


async def test_row_added_beside_graphs_is_found_at_once(
    store: EdgeStore, related_vectors: Vectorise
) -> None:
    """So is one that replaces another, which is found no more, nor is one that is deleted."""
    vectors = await load(store, related_vectors)
    new, moved = related_vectors(2, 9)

    await store.add(rows("new", 1), new[None])
    await store.add([Demonstration("meld-5", "meld", "anger", "moved")], moved[None])
    await store.delete("meld-6")

    (first,) = await store.nearest(new, "meld", k=1)
    assert first.demonstration.id == "new-0"
    (first,) = await store.nearest(moved, "meld", k=1)
    assert first.demonstration.text == "moved"
    for gone in (5, 6):
        matches = await store.nearest(vectors[gone], "meld", k=4)
        assert f"meld {gone}" not in {m.demonstration.text for m in matches}


async def test_reopened_index_has_the_graphs_it_had(
    tmp_path: Path, related_vectors: Vectorise
) -> None:
    """None is built again, and the answers are the same."""
    store = await open_edge(tmp_path, ENCODER, FEW)
    await load(store, related_vectors)
    queries = related_vectors(20, 4)
    before = [await store.nearest(query, "meld", k=4) for query in queries]
    built = segments(tmp_path)
    await store.close()

    store = await open_edge(tmp_path, ENCODER, FEW)

    assert in_graphs(store) == 2_200
    assert segments(tmp_path) == built
    assert [await store.nearest(query, "meld", k=4) for query in queries] == before
    await store.close()


async def test_opening_puts_into_graphs_what_is_in_none(
    tmp_path: Path, related_vectors: Vectorise
) -> None:
    """Such as an index that has been searched exhaustively so far."""
    vectors = related_vectors(1_000, 5)
    store = await open_edge(tmp_path, ENCODER)
    await store.add(rows("meld", 1_000), vectors)
    assert in_graphs(store) == 0
    await store.close()

    store = await open_edge(tmp_path, ENCODER, FEW)

    assert in_graphs(store) == 1_000
    (first,) = await store.nearest(vectors[17], "meld", k=1)
    assert first.demonstration.id == "meld-17"
    await store.close()


async def test_edition_written_over_the_one_before_is_in_graphs(
    store: EdgeStore, related_vectors: Vectorise
) -> None:
    """Rows with the same ids leave the graphs of the old ones; counts alone would not show it."""
    await load(store, related_vectors)
    vectors = related_vectors(2_000, 6)
    await store.add(rows("meld", 2_000), vectors, edition="two")

    await store.finish_edition("two")

    assert await store.count() == in_graphs(store) == 2_000
    (first,) = await store.nearest(vectors[1_234], "meld", k=1)
    assert first.demonstration.id == "meld-1234"


async def test_store_answers_while_graphs_are_built_for_what_people_added(
    tmp_path: Path, store: EdgeStore, related_vectors: Vectorise, gate: Gate
) -> None:
    """What is written meanwhile is found meanwhile, afterwards, and after a restart."""
    vectors = related_vectors(FEW + 52, 7)
    demonstrations = rows("added", FEW + 50)
    for start in range(0, FEW + 50, 50):  # as requests bring them, one more than needs no graph
        await store.add(demonstrations[start : start + 50], vectors[start : start + 50])
    await gate.reach()

    await store.add(rows("meanwhile", 1), vectors[-1:])
    await store.delete("added-3")

    async def check(store: EdgeStore) -> None:
        for number, name in ((0, "added-0"), (-1, "meanwhile-0"), (FEW + 49, f"added-{FEW + 49}")):
            (first,) = await store.nearest(vectors[number], "meld", k=1)
            assert first.demonstration.id == name
        assert await store.count() == FEW + 50
        with pytest.raises(DemonstrationNotFound):
            await store.get("added-3")

    await check(store)
    assert in_graphs(store) == 0
    gate.opened.set()
    await settle(store)
    assert in_graphs(store) >= FEW
    await check(store)
    await store.close()
    again = await open_edge(tmp_path, ENCODER, FEW)
    await check(again)
    await again.close()
    assert len(shards(tmp_path)) == 1


async def test_few_additions_build_no_graphs(
    store: EdgeStore, related_vectors: Vectorise, gate: Gate
) -> None:
    """As many as a search looks at one by one anyway."""
    await store.add(rows("added", FEW), related_vectors(FEW, 8))
    await settle(store)

    assert not gate.reached.is_set()


async def test_closing_stops_the_building_and_loses_nothing(
    tmp_path: Path, store: EdgeStore, related_vectors: Vectorise, gate: Gate
) -> None:
    """The half-built copy is gone when the index is opened again."""
    adding = asyncio.create_task(store.add(rows("added", FEW + 1), related_vectors(FEW + 1, 8)))
    await gate.reach()
    assert len(shards(tmp_path)) == 2

    await store.close()
    async with asyncio.timeout(PATIENT_S):
        await adding

    again = await open_edge(tmp_path, ENCODER)
    assert await again.count() == FEW + 1
    assert shards(tmp_path) == ["shard"]
    await again.close()


@pytest.fixture
def broken_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path.with_suffix(".sh")
    script.write_text("#!/bin/sh\necho noise >&2\necho 'disk full' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.mark.usefixtures("broken_builder")
async def test_edition_whose_graphs_cannot_be_built_is_not_finished(
    tmp_path: Path, store: EdgeStore, related_vectors: Vectorise
) -> None:
    """The error says why; the store goes on, and no half-built copy takes up room."""
    with pytest.raises(DemonstrationsUnavailable, match=r"cannot build the graphs.*disk full"):
        await load(store, related_vectors)

    assert await store.edition() is None
    assert await store.count("meld") == 2_000
    assert shards(tmp_path) == ["shard"]


@pytest.mark.usefixtures("broken_builder")
async def test_additions_whose_graphs_cannot_be_built_are_found_all_the_same(
    store: EdgeStore, related_vectors: Vectorise, caplog: pytest.LogCaptureFixture
) -> None:
    """They are safe and merely slow to search, so only the log complains."""
    vectors = related_vectors(FEW + 1, 8)

    await store.add(rows("added", FEW + 1), vectors)

    (first,) = await store.nearest(vectors[FEW], "meld", k=1)
    assert first.demonstration.id == f"added-{FEW}"
    assert "disk full" in caplog.text


async def test_index_whose_graphs_cannot_be_built_does_not_open(
    tmp_path: Path, related_vectors: Vectorise, request: pytest.FixtureRequest
) -> None:
    """Nothing is lost, and the folder is free again."""
    store = await open_edge(tmp_path, ENCODER)
    await store.add(rows("meld", 1_000), related_vectors(1_000, 5))
    await store.close()
    request.getfixturevalue("broken_builder")

    with pytest.raises(DemonstrationsUnavailable, match="disk full"):
        await open_edge(tmp_path, ENCODER, FEW)

    store = await open_edge(tmp_path, ENCODER)
    assert await store.count() == 1_000
    await store.close()


async def test_copy_that_a_killed_process_left_is_deleted(
    tmp_path: Path, related_vectors: Vectorise
) -> None:
    """The card tells it from the index."""
    store = await open_edge(tmp_path, ENCODER, FEW)
    await load(store, related_vectors)
    await store.close()
    left = tmp_path / f"shard-{uuid4()}"
    (left / "segments").mkdir(parents=True)

    store = await open_edge(tmp_path, ENCODER, FEW)

    assert await store.count() == 2_200
    assert not left.exists()
    await store.close()


@pytest.mark.parametrize(
    ("card", "complaint"),
    [(None, "is missing"), (f'{{"encoder": "{ENCODER}"}}', "names shard, .*only shard-")],
)
async def test_card_that_does_not_name_the_shard_is_refused(
    tmp_path: Path, related_vectors: Vectorise, card: str | None, complaint: str
) -> None:
    """A missing one, or one from before a copy took the index's place; nothing is deleted."""
    store = await open_edge(tmp_path, ENCODER, FEW)
    await load(store, related_vectors)
    await store.close()
    path = tmp_path / "index.json"
    right = path.read_bytes()
    path.unlink()
    if card is not None:
        path.write_text(card)

    with pytest.raises(IndexMismatch, match=rf"index\.json {complaint}"):
        await open_edge(tmp_path, ENCODER, FEW)

    path.write_bytes(right)
    store = await open_edge(tmp_path, ENCODER, FEW)
    assert await store.count() == 2_200
    await store.close()


@pytest.fixture
async def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable[int]]:
    """Has building take for ever; gives the id of the process that does it."""
    report = tmp_path / "sleeper"
    os.mkfifo(report)
    script = tmp_path / "sleeper.sh"
    script.write_text(f"#!/bin/sh\necho $$ > {report}\nexec sleep 1000\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    return lambda: asyncio.to_thread(lambda: int(report.read_text()))


async def test_cancelled_building_ends_its_process(
    tmp_path: Path, sleeper: Callable[[], Awaitable[int]]
) -> None:
    """It does not go on with a copy that nobody wants."""
    building = asyncio.create_task(build_graphs(tmp_path))
    process = await sleeper()

    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building

    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


async def test_killed_building_says_so(
    tmp_path: Path, sleeper: Callable[[], Awaitable[int]]
) -> None:
    """As the kernel does when memory runs out."""
    building = asyncio.create_task(build_graphs(tmp_path))
    os.kill(await sleeper(), signal.SIGKILL)

    with pytest.raises(GraphNotBuilt, match="exit status -9"):
        await building
