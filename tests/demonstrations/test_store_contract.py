"""Every backend meets one reference: exhaustive search, a dictionary, a sorted list.

`edge_graphs` and `server_graphs` have graphs from so few rows on that most tests search them.
`server_client_alone` runs the server store's code on the client library's own in-memory engine,
so no server is needed; the other two need one, named by ERC_TEST_QDRANT_URL.
"""

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from service.conversation.dialogue import Demonstration
from service.demonstrations.encoder import DIMENSIONS, Vector, Vectors
from service.demonstrations.qdrant_edge.store import open_edge
from service.demonstrations.qdrant_server import ServerLimits, open_collection, open_server
from service.demonstrations.store import Correction, DemonstrationStore, IndexMismatch
from service.errors import DemonstrationNotFound, DemonstrationsUnavailable

Vectorise = Callable[[int, int], Vectors]
Open = Callable[[str], Awaitable[DemonstrationStore]]

ENCODER = "reference@00000000"
SPACES = ("meld", "iemocap", "unified")
FEW = 8  # rows that need no graph

needs_server = pytest.mark.skipif(
    "ERC_TEST_QDRANT_URL" not in os.environ, reason="ERC_TEST_QDRANT_URL is not set"
)


def demonstrations(n: int) -> list[Demonstration]:
    return [Demonstration(f"row-{i}", SPACES[i % 3], "neutral", f"line {i}") for i in range(n)]


def exhaustive(
    rows: Sequence[Demonstration], vectors: Vectors, query: Vector, label_space: str, k: int
) -> list[tuple[str, float]]:
    scored = [
        (row.id, float(vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)))
        for row, vector in zip(rows, vectors, strict=True)
        if row.label_space == label_space
    ]
    return sorted(scored, key=lambda pair: -pair[1])[:k]


@pytest.fixture(
    params=[
        "edge",
        "edge_graphs",
        pytest.param(
            "server_client_alone",
            # It says that it searches exhaustively and needs no index, which is why it is here.
            marks=pytest.mark.filterwarnings("ignore::UserWarning"),
        ),
        pytest.param("server", marks=needs_server),
        pytest.param("server_graphs", marks=needs_server),
    ]
)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens one and the same index, again and again, for a given encoder."""
    if request.param == "edge":
        yield lambda identity: open_edge(tmp_path / "index", identity)
    elif request.param == "edge_graphs":
        yield lambda identity: open_edge(tmp_path / "index", identity, FEW)
    elif request.param == "server_client_alone":
        yield lambda identity: open_collection(
            AsyncQdrantClient(path=str(tmp_path / "index")), "contract", identity, ServerLimits()
        )
    else:
        url = os.environ["ERC_TEST_QDRANT_URL"]
        key = os.environ.get("ERC_TEST_QDRANT_API_KEY")
        collection = f"contract-{uuid.uuid4()}"
        limits = (
            ServerLimits(exact_up_to=FEW) if request.param == "server_graphs" else ServerLimits()
        )
        yield lambda identity: open_server(url, key, collection, identity, limits=limits)
        client = AsyncQdrantClient(url=url, api_key=key)
        await client.delete_collection(collection)
        await client.close()


@pytest.fixture
async def store(open_store: Open) -> AsyncIterator[DemonstrationStore]:
    store = await open_store(ENCODER)
    yield store
    await store.close()


async def listed(
    store: DemonstrationStore, label_space: str | None, limit: int, tenant: str | None = None
) -> list[str]:
    ids: list[str] = []
    after: str | None = None
    while True:
        page = await store.list(label_space, limit, after, tenant)
        assert 0 < len(page.demonstrations) <= limit
        ids += [d.id for d in page.demonstrations]
        if page.next is None:
            return ids
        after = page.next


async def test_nearest_agrees_with_exhaustive_search(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """Within the label space, the same rows in the same order with the same cosines."""
    rows, vectors = demonstrations(300), unit_vectors(300, 7)
    await store.add(rows, vectors)

    for query in unit_vectors(5, 8):
        matches = await store.nearest(query, "iemocap", k=8)

        expected = exhaustive(rows, vectors, query, "iemocap", k=8)
        assert [m.demonstration.id for m in matches] == [name for name, _ in expected]
        assert [m.similarity for m in matches] == pytest.approx([c for _, c in expected], abs=1e-5)


async def test_length_of_a_vector_does_not_matter(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """Similarity is the cosine, 1 for the same direction, never above."""
    rows, vectors = demonstrations(30), unit_vectors(30, 1)
    await store.add(rows, 5 * vectors)

    (best,) = await store.nearest(0.1 * vectors[3], "meld", k=1)

    assert best.demonstration == rows[3]
    assert best.similarity == pytest.approx(1.0, abs=1e-5)
    assert best.similarity <= 1.0


async def test_corrections_are_found_apart_with_where_they_were_said(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """By their tenant alone, in their label space; among its demonstrations all the same."""
    rows, vectors = demonstrations(30), unit_vectors(31, 1)
    await store.add(rows, vectors[:30])
    context = unit_vectors(1, 9)[0]
    corrections = [
        Correction(Demonstration("c1", "meld", "joy", "We won!"), context, 12.5),
        Correction(Demonstration("c2", "meld", "anger", "They won."), None, 13.5),
        Correction(Demonstration("c3", "iemocap", "joy", "We won."), None, 14.5),
    ]
    for correction, vector in zip(corrections, vectors, strict=False):
        await store.add_correction(correction, vector, "one")

    first, second = await store.corrections(vectors[0], "meld", 5, "one")

    assert first.similarity == pytest.approx(1, abs=1e-5)
    assert (first.correction.demonstration, first.correction.corrected_at) == (
        corrections[0].demonstration,
        12.5,
    )
    assert first.correction.context == pytest.approx(context, abs=1e-3)
    assert second.correction == corrections[1]
    assert await store.corrections(vectors[0], "meld", 5, "two") == []
    assert await store.count_corrections("meld", "one") == 2
    assert await store.count_corrections("meld", "two") == 0
    matches = await store.nearest(vectors[0], "meld", 40, "one")
    assert {match.demonstration.id for match in matches} == {row.id for row in rows[::3]}
    assert await store.get("c1", "one") == corrections[0].demonstration
    assert sorted(await listed(store, "meld", 4, "one"))[:2] == ["c1", "c2"]

    await store.delete("c1", "one")
    changed = Correction(corrections[1].demonstration, context, 15.5)
    await store.add_correction(changed, vectors[1], "one")
    (left,) = await store.corrections(vectors[0], "meld", 5, "one")
    assert left.correction.corrected_at == 15.5


async def test_a_correction_needs_a_finite_vector(store: DemonstrationStore) -> None:
    """As every demonstration."""
    correction = Correction(Demonstration("c1", "meld", "joy", "We won!"), None, 12.5)
    with pytest.raises(ValueError, match="finite"):
        await store.add_correction(correction, np.full(DIMENSIONS, np.nan, np.float32), "one")


async def test_fewer_than_k_gives_those_there_are(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """A small or an unknown label space is no error."""
    await store.add(demonstrations(6), unit_vectors(6, 1))
    query = unit_vectors(1, 2)[0]

    assert len(await store.nearest(query, "meld", k=8)) == 2
    assert await store.nearest(query, "nowhere", k=8) == []


async def test_same_id_again_replaces(store: DemonstrationStore, unit_vectors: Vectorise) -> None:
    """Vector, label space, label and text are the new ones; the number of rows stays."""
    vectors = unit_vectors(2, 3)
    await store.add([Demonstration("a", "meld", "joy", "We won!")], vectors[:1])
    new = Demonstration("a", "iemocap", "sad", "We lost.")

    await store.add([new], vectors[1:])

    assert await store.get("a") == new
    assert await store.count() == 1
    assert await store.nearest(vectors[0], "meld", k=1) == []
    (match,) = await store.nearest(vectors[1], "iemocap", k=1)
    assert match.demonstration == new
    assert match.similarity == pytest.approx(1.0, abs=1e-5)


async def test_same_id_twice_in_one_call_takes_the_last(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """As if they had been written one by one."""
    first, last = (Demonstration("a", "meld", "joy", text) for text in ("first", "last"))

    await store.add([first, last], unit_vectors(2, 3))

    assert await store.get("a") == last
    assert await store.count() == 1


async def test_deleted_is_gone_everywhere(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """Search, listing, count and look-up no longer know it; deleting it again says so."""
    rows, vectors = demonstrations(9), unit_vectors(9, 4)
    await store.add(rows, vectors)

    await store.delete("row-3")

    matches = await store.nearest(vectors[3], "meld", k=9)
    assert {m.demonstration.id for m in matches} == {"row-0", "row-6"}
    assert "row-3" not in await listed(store, None, limit=100)
    assert await store.count() == 8
    with pytest.raises(DemonstrationNotFound):
        await store.get("row-3")
    with pytest.raises(DemonstrationNotFound):
        await store.delete("row-3")


async def test_a_tenant_finds_its_own_demonstrations_and_the_shared_ones(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """And nobody else's: in a search as in a listing, over more rows than have no graph."""
    rows, vectors = demonstrations(60), unit_vectors(60, 11)
    owners = [(None, "one", "two")[number // 3 % 3] for number in range(60)]
    for owner in (None, "one", "two"):
        chosen = [number for number in range(60) if owners[number] == owner]
        await store.add([rows[n] for n in chosen], vectors[chosen], tenant=owner)

    for tenant in (None, "one", "two", "three"):
        seen = [number for number in range(60) if owners[number] in (None, tenant)]
        assert sorted(await listed(store, None, 7, tenant)) == sorted(rows[n].id for n in seen)
        for query in unit_vectors(3, 12):
            matches = await store.nearest(query, "meld", 8, tenant)
            expected = exhaustive([rows[n] for n in seen], vectors[seen], query, "meld", k=8)
            assert [m.demonstration.id for m in matches] == [name for name, _ in expected]


async def test_an_id_is_a_tenants_own(store: DemonstrationStore, unit_vectors: Vectorise) -> None:
    """Each reads its own under it, or else the shared one; each deletes its own alone."""
    texts: dict[str | None, str] = {None: "everybody's", "one": "ours", "two": "theirs"}
    for tenant, text in texts.items():
        mine = Demonstration("a", "meld", "joy", text)
        await store.add([mine], unit_vectors(1, 3), tenant=tenant)

    assert await store.count() == 3
    for tenant in texts:
        assert (await store.get("a", tenant)).text == texts[tenant]
    assert (await store.get("a", "three")).text == "everybody's"
    with pytest.raises(DemonstrationNotFound):
        await store.delete("a", "three")

    await store.delete("a", "one")

    with pytest.raises(DemonstrationNotFound):
        await store.delete("a", "one")
    assert (await store.get("a", "one")).text == "everybody's"
    assert (await store.get("a", "two")).text == "theirs"


async def test_texts_are_looked_up_by_id_the_tenants_own_before_the_shared(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """Of those that exist; however many are asked for, also of several thousands that do not."""
    rows, vectors = demonstrations(600), unit_vectors(600, 13)
    await store.add(rows, vectors)
    await store.add([Demonstration("row-3", "meld", "joy", "ours")], vectors[:1], tenant="one")
    await store.add([Demonstration("row-9", "meld", "joy", "theirs")], vectors[:1], tenant="two")
    await store.add([Demonstration("own", "meld", "joy", "own")], vectors[:1], tenant="one")
    shared = {row.id: row.text for row in rows}
    ids = [*shared, "own", "row-3", *(f"nowhere-{n}" for n in range(3_000))]

    assert await store.texts(ids, "one") == shared | {"row-3": "ours", "own": "own"}
    assert await store.texts(ids) == shared
    assert await store.texts({"own"}, "two") == {}
    assert await store.texts([], "one") == {}


async def test_a_tenants_own_demonstrations_are_counted_alone(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """Exactly, in all and by label space; what is shared, or another's, does not count."""
    rows, vectors = demonstrations(60), unit_vectors(60, 14)
    await store.add(rows, vectors)
    await store.add(rows[:20], vectors[:20], tenant="one")
    await store.add(rows[:3], vectors[:3], tenant="two")

    assert [await store.count(tenant=name) for name in ("one", "two", "three")] == [20, 3, 0]
    assert [await store.count(space, tenant="one") for space in SPACES] == [7, 7, 6]

    await store.delete("row-0", "one")

    assert await store.count(tenant="one") == 19
    assert await store.count() == 82


async def test_a_listing_goes_on_only_from_a_page_before(store: DemonstrationStore) -> None:
    """Anything else as `after` is refused."""
    with pytest.raises(ValueError):
        await store.list(None, 10, after="row-1")


@pytest.mark.parametrize("limit", [1, 7, 10, 11, 30, 50])
@pytest.mark.parametrize("label_space", [None, "meld"])
async def test_listing_pages_through_everything_once(
    store: DemonstrationStore, unit_vectors: Vectorise, label_space: str | None, limit: int
) -> None:
    """Every row is on one page, in the same order for every page size."""
    rows = demonstrations(30)
    await store.add(rows, unit_vectors(30, 5))

    page = await listed(store, label_space, limit)

    expected = {row.id for row in rows if label_space in (None, row.label_space)}
    assert len(page) == len(expected)
    assert set(page) == expected
    assert page == await listed(store, label_space, limit=len(expected))


async def test_listing_goes_on_after_a_row_deleted_meanwhile(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """The next page begins where it would have begun, with the last row of this one deleted."""
    await store.add(demonstrations(30), unit_vectors(30, 5))
    order = await listed(store, None, limit=30)
    page = await store.list(None, limit=10)
    assert page.next is not None

    await store.delete(page.demonstrations[-1].id)

    rest = await store.list(None, limit=30, after=page.next)
    assert [d.id for d in rest.demonstrations] == order[10:]


async def test_listing_an_empty_store_gives_one_empty_page(store: DemonstrationStore) -> None:
    """There is no next page to ask for."""
    page = await store.list(None, limit=10)

    assert (page.demonstrations, page.next) == ((), None)


async def test_count_is_exact_for_a_label_space_and_in_all(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """More rows than go into one write are counted like any other."""
    await store.add(demonstrations(260), unit_vectors(260, 6))

    assert await store.count() == 260
    assert [await store.count(space) for space in (*SPACES, "nowhere")] == [87, 87, 86, 0]


async def test_text_comes_back_as_it_went_in(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """Quotes, line breaks, other scripts and long ids are kept."""
    row = Demonstration("id/with ?#% " + "x" * 300, "meld", "joy", 'Ja!\n"Très bien" 好的 🎉\t\\')

    await store.add([row], unit_vectors(1, 1))

    assert await store.get(row.id) == row


async def test_adding_nothing_changes_nothing(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """An empty call is no error."""
    await store.add([], unit_vectors(0, 1))

    assert await store.count() == 0


async def test_finished_edition_drops_the_one_before_and_keeps_what_people_added(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """A row written again by people is theirs; written again by an edition, it is of that."""
    rows, vectors = demonstrations(5), unit_vectors(5, 9)
    await store.add(rows[:3], vectors[:3], edition="one")
    await store.finish_edition("one")
    await store.add(rows[1:2], vectors[1:2])  # people overwrite row-1
    await store.add(rows[3:5], vectors[3:5])  # and add row-3 and row-4
    await store.add(rows[2:4], vectors[2:4], edition="two")
    assert await store.edition() == "one"

    await store.finish_edition("two")

    assert set(await listed(store, None, limit=10)) == {"row-1", "row-2", "row-3", "row-4"}
    assert await store.edition() == "two"


async def test_reopened_index_holds_what_was_acknowledged(
    open_store: Open, unit_vectors: Vectorise
) -> None:
    """Rows, deletions and the edition outlive the store that wrote them."""
    rows, vectors = demonstrations(20), unit_vectors(20, 10)
    store = await open_store(ENCODER)
    await store.add(rows, vectors, edition="one")
    await store.finish_edition("one")
    await store.delete("row-0")
    await store.close()

    store = await open_store(ENCODER)

    assert await store.count() == 19
    assert await store.edition() == "one"
    (match,) = await store.nearest(vectors[4], "iemocap", k=1)
    assert match.demonstration == rows[4]
    await store.close()


async def test_index_of_another_encoder_is_refused(open_store: Open) -> None:
    """The error names both encoders; the index still opens for its own."""
    await (await open_store(ENCODER)).close()

    with pytest.raises(IndexMismatch, match=r"reference@00000000.*other@11111111"):
        await open_store("other@11111111")

    await (await open_store(ENCODER)).close()


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        (np.ones((1, DIMENSIONS), np.float32), "one vector for two rows"),
        (np.ones((2, DIMENSIONS - 1), np.float32), "too short"),
        (np.full((2, DIMENSIONS), np.nan, np.float32), "not a number"),
    ],
)
async def test_unfit_vectors_are_refused_whole(
    store: DemonstrationStore, vectors: Vectors, why: str
) -> None:
    """Nothing is written, not even the rows before the unfit one."""
    with pytest.raises(ValueError, match="finite vectors"):
        await store.add(demonstrations(2), vectors)

    assert await store.count() == 0, why


async def test_unfit_questions_are_refused(
    store: DemonstrationStore, unit_vectors: Vectorise
) -> None:
    """A mistake of the caller is not reported as a store that does not answer."""
    query = unit_vectors(1, 1)[0]

    with pytest.raises(ValueError, match="384"):
        await store.nearest(query[:-1], "meld", k=1)
    with pytest.raises(ValueError, match="k must be"):
        await store.nearest(query, "meld", k=0)
    with pytest.raises(ValueError, match="limit must be"):
        await store.list(None, limit=0)


async def test_closed_store_does_not_answer(open_store: Open, unit_vectors: Vectorise) -> None:
    """Every call after `close` raises our own error; closing twice is harmless."""
    store = await open_store(ENCODER)
    await store.ping()
    vectors = unit_vectors(1, 1)

    await store.close()
    await store.close()

    calls: list[Callable[[], Awaitable[object]]] = [
        store.ping,
        store.count,
        store.list,
        lambda: store.get("a"),
        lambda: store.texts(["a"]),
        lambda: store.delete("a"),
        lambda: store.nearest(vectors[0], "meld", 1),
        lambda: store.add(demonstrations(1), vectors),
        lambda: store.finish_edition("one"),
    ]
    for call in calls:
        with pytest.raises(DemonstrationsUnavailable):
            await call()
