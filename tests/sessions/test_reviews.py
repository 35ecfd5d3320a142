"""Lists of utterances to check, and the counts beside them."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from service.errors import CorrectionNotFound
from service.sessions import erasure, reviews
from service.sessions.database import Database
from service.sessions.progress import Progress
from service.sessions.records import Figures
from service.sessions.reviews import ReviewOrder, ReviewPlace
from service.sessions.schema import dialogues, utterance_counts, utterances
from service.sessions.store import SessionStore

Named = tuple[str, int]


async def say(
    store: SessionStore,
    dialogue_id: str,
    margin: float | None,
    *,
    tenant: str = "one",
    label_space: str = "meld",
) -> None:
    tail = await store.tail(tenant, dialogue_id, "Ann", lines=2)
    figures = Figures("joy", 0.5, 0, margin)
    await store.append(
        tail, text="Hi.", label_space=label_space, prediction={"n": margin}, figures=figures
    )


async def listed(
    store: SessionStore,
    order: ReviewOrder = ReviewOrder.MARGIN,
    limit: int = 2,
    *,
    tenant: str = "one",
    label_space: str = "meld",
    corrected: bool = False,
) -> list[Named]:
    """Of all pages, one after the other."""
    names: list[Named] = []
    after: ReviewPlace | None = None
    while True:
        page = await store.reviews.page(
            tenant, label_space, order, limit, after, corrected=corrected
        )
        assert len(page.utterances) <= limit
        names += [(each.dialogue_id, each.utterance.index) for each in page.utterances]
        after = page.end
        if after is None:
            return names


async def counted(database: Database) -> dict[Any, Any]:
    """The stored counts, their parts summed, by tenant and label space."""
    sums: dict[Any, Any] = {}
    for row in await database.fetch(select(utterance_counts)):
        before = sums.get((row.tenant, row.label_space), (0, 0))
        sums[row.tenant, row.label_space] = before[0] + row.utterances, before[1] + row.corrected
    return sums


async def test_the_least_certain_come_first(store: SessionStore) -> None:
    """Of a tenant and a label space; equals by dialogue and index, none without a margin."""
    margins: dict[str, tuple[float | None, ...]] = {
        "a": (0.9, 0.1, 0.3, 0.3),
        "b": (0.3, None, 0.0),
    }
    for dialogue_id, each in margins.items():
        for margin in each:
            await say(store, dialogue_id, margin)
    await say(store, "b", 0.2, label_space="unified")
    await say(store, "a", 0.05, tenant="two")

    assert await listed(store) == [("b", 2), ("a", 1), ("a", 2), ("a", 3), ("b", 0), ("a", 0)]
    assert await listed(store, label_space="unified") == [("b", 3)]
    assert await listed(store, tenant="two") == [("a", 0)]
    assert await listed(store, tenant="three") == []


async def test_the_newest_come_first(store: SessionStore) -> None:
    for dialogue_id in ("a", "b", "a", "c", "b"):
        await say(store, dialogue_id, 0.5)

    assert await listed(store, ReviewOrder.NEWEST) == [
        ("b", 1), ("c", 0), ("a", 1), ("b", 0), ("a", 0),
    ]  # fmt: skip


async def test_a_corrected_utterance_leaves_the_list_until_that_is_taken_back(
    store: SessionStore,
) -> None:
    """In whichever label space the person has labelled it; the other list has it meanwhile."""
    for margin in (0.1, 0.2, 0.3):
        await say(store, "d", margin)
    await store.corrections.put("one", "d", 0, "meld", "anger")
    await store.corrections.put("one", "d", 1, "unified", "mad")
    await store.corrections.put("one", "d", 1, "unified", "sad")

    assert await listed(store) == [("d", 2)]
    page = await store.reviews.page("one", "meld", ReviewOrder.MARGIN, 9, corrected=True)
    labels = [(each.utterance.correction, each.margin) for each in page.utterances]
    assert [(c and c.label_space, c and c.label, margin) for c, margin in labels] == [
        ("meld", "anger", 0.1),
        ("unified", "sad", 0.2),
    ]
    assert await store.reviews.progress("one", "meld") == Progress(3, 2)

    await store.corrections.remove("one", "d", 0)

    assert await listed(store) == [("d", 0), ("d", 2)]
    assert await listed(store, corrected=True) == [("d", 1)]
    assert await store.reviews.progress("one", "meld") == Progress(3, 1)
    assert await store.reviews.progress("two", "meld") == Progress(0, 0)


async def test_a_page_shows_what_is_stored(store: SessionStore) -> None:
    await say(store, "d", 0.25)

    (each,) = (await store.reviews.page("one", "meld", ReviewOrder.MARGIN, 9)).utterances

    (stored,) = (await store.timeline("one", "d")).utterances
    assert (each.dialogue_id, each.utterance, each.margin) == ("d", stored, 0.25)


async def test_a_place_outlives_the_utterance(store: SessionStore) -> None:
    """The next page begins behind a place whose utterance has left the list meanwhile."""
    for margin in (0.1, 0.2, 0.3):
        await say(store, "d", margin)
    first = await store.reviews.page("one", "meld", ReviewOrder.MARGIN, 1)
    await store.corrections.put("one", "d", 0, "meld", "joy")
    await store.corrections.put("one", "d", 1, "meld", "joy")

    following = await store.reviews.page("one", "meld", ReviewOrder.MARGIN, 1, first.end)

    assert [each.utterance.index for each in following.utterances] == [2]
    assert following.end is None


async def test_nothing_of_a_dialogue_shows_whose_erasure_has_begun(
    store: SessionStore, database: Database
) -> None:
    """The page leads to the others."""
    for dialogue_id in ("a", "b", "c"):
        await say(store, dialogue_id, 0.5)
    begun = update(dialogues).where(dialogues.c.id == "b").values(length=-1)
    await database.change(begun)

    assert await listed(store, limit=1) == [("a", 0), ("c", 0)]


@pytest.mark.parametrize("seed", range(3))
async def test_the_counts_stay_those_of_the_utterances(
    store: SessionStore, database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through appends, corrections, erasures in portions and expiry; none is left at the end."""
    monkeypatch.setattr(erasure, "PORTION", 3)
    draw = random.Random(seed)
    tenants, spaces, ids = ("one", "two"), ("meld", "unified"), ("a", "b", "c")
    for _ in range(60):
        tenant, dialogue_id = draw.choice(tenants), draw.choice(ids)
        await say(
            store,
            dialogue_id,
            draw.choice([None, draw.random(), draw.random()]),
            tenant=tenant,
            label_space=draw.choice(spaces),
        )
        length = (await store.timeline(tenant, dialogue_id)).length
        if draw.random() < 0.5:
            index = draw.randrange(length)
            await store.corrections.put(tenant, dialogue_id, index, "meld", draw.choice(["joy"]))
        if draw.random() < 0.3:
            try:
                await store.corrections.remove(tenant, dialogue_id, draw.randrange(length))
            except CorrectionNotFound:
                continue
        if draw.random() < 0.1:
            await store.delete(tenant, dialogue_id)
    expected: dict[Any, Any] = {}
    for tenant in tenants:
        for label_space in spaces:
            waiting, done = [
                await listed(store, tenant=tenant, label_space=label_space, corrected=corrected)
                for corrected in (False, True)
            ]
            if waiting or done:
                expected[tenant, label_space] = len(waiting) + len(done), len(done)

    assert await counted(database) == expected
    while await store.erase_before(datetime.now(UTC) + timedelta(days=1), 2):
        pass
    assert await counted(database) == {}


async def test_appends_that_come_together_are_all_counted(store: SessionStore) -> None:
    """To dialogues that are counted in one part, and in others."""
    await asyncio.gather(*(say(store, f"d{n}", 0.5) for n in range(40)))
    await asyncio.gather(
        *(store.corrections.put("one", f"d{n}", 0, "meld", "joy") for n in range(0, 40, 2))
    )

    assert await store.reviews.progress("one", "meld") == Progress(40, 20)


async def exported(
    store: SessionStore, since: datetime | None = None, tenant: str = "one"
) -> list[tuple[str, list[str | None], bool, bool]]:
    """The portions of an export in `meld`: dialogue, labels, whether it is the first, the last."""
    return [
        (
            portion.dialogue_id,
            [utterance.label for utterance in portion.utterances],
            portion.first,
            portion.last,
        )
        async for portion in store.reviews.corrected(tenant, "meld", since)
    ]


async def test_an_export_has_whole_dialogues_in_portions(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of ids, of one tenant and one label space, labels on corrected lines alone."""
    monkeypatch.setattr(reviews, "_DIALOGUES", 1)
    monkeypatch.setattr(reviews, "_UTTERANCES", 2)
    monkeypatch.setattr(reviews, "_LINES", reviews._LINES.limit(2))
    for dialogue_id, length in (("b", 3), ("a", 2), ("c", 1), ("d", 1)):
        for _ in range(length):
            await say(store, dialogue_id, 0.5)
            await say(store, dialogue_id, 0.5, tenant="two")
    await store.corrections.put("one", "b", 2, "meld", "anger")
    await store.corrections.put("one", "a", 0, "meld", "joy")
    await store.corrections.put("one", "a", 1, "unified", "mad")
    await store.corrections.put("one", "c", 0, "unified", "mad")

    assert await exported(store) == [
        ("a", ["joy", None], True, True),
        ("b", [None, None], True, False),
        ("b", ["anger"], False, True),
    ]
    assert await exported(store, tenant="two") == []
    moment = datetime.now(UTC)
    assert await exported(store, moment) == []
    await store.corrections.put("one", "d", 0, "meld", "joy")
    assert await exported(store, moment) == [("d", ["joy"], True, True)]


async def test_an_export_ends_a_dialogue_that_is_erased_meanwhile(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another one begins under its id."""
    monkeypatch.setattr(reviews, "_UTTERANCES", 1)
    monkeypatch.setattr(reviews, "_LINES", reviews._LINES.limit(1))
    for _ in range(4):
        await say(store, "d", 0.5)
    await store.corrections.put("one", "d", 3, "meld", "joy")
    portions = store.reviews.corrected("one", "meld")
    first = await anext(portions)
    await store.delete("one", "d")
    for _ in range(4):
        await say(store, "d", 0.5)

    rest = [portion async for portion in portions]

    assert (first.first, first.last) == (True, False)
    assert [(len(portion.utterances), portion.last) for portion in rest] == [(1, True)]


async def test_a_correction_that_was_not_counted_is_not_subtracted(
    database: Database, store: SessionStore
) -> None:
    """Such as one of a process without counts; another correction counts it after all."""
    for dialogue_id in ("a", "b"):
        await say(store, dialogue_id, 0.5)
        await store.corrections.put("one", dialogue_id, 0, "meld", "anger")
    await database.change(update(utterances).values(corrected=False))
    await database.change(update(utterance_counts).values(corrected=0))

    await store.corrections.remove("one", "a", 0)
    assert await counted(database) == {("one", "meld"): (2, 0)}

    await store.corrections.put("one", "b", 0, "meld", "joy")
    assert await counted(database) == {("one", "meld"): (2, 1)}
    assert await listed(store, corrected=True) == [("b", 0)]
