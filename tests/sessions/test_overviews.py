"""Sums that are kept with dialogues, and lists of dialogues by them."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from service.conversation.summaries import Reading, summarize, tally
from service.conversation.valence import UNIT
from service.errors import CorrectionNotFound, DialogueNotFound
from service.sessions import overviews
from service.sessions.database import Database
from service.sessions.overviews import Conditions, LabelCondition, Order, Overview, Place
from service.sessions.records import Figures
from service.sessions.schema import dialogue_labels, dialogues
from service.sessions.store import SessionStore

LABELS = ("joy", "anger", "neutral")
ANY = Conditions()


async def say(
    store: SessionStore,
    dialogue_id: str,
    figures: Figures | None,
    *,
    tenant: str = "one",
    speaker: str = "Ann",
    role: str | None = None,
    label_space: str = "meld",
) -> None:
    tail = await store.tail(tenant, dialogue_id, speaker, lines=2)
    await store.append(
        tail, text="Hi.", label_space=label_space, prediction={}, figures=figures, role=role
    )


async def stored_sums(database: Database, dialogue_id: str) -> Any:
    (row,) = await database.fetch(select(dialogues).where(dialogues.c.id == dialogue_id))
    return row


async def stored_labels(database: Database, dialogue_id: str) -> dict[Any, Any]:
    rows = await database.fetch(
        select(dialogue_labels).where(dialogue_labels.c.dialogue_id == dialogue_id)
    )
    return {(row.label_space, row.label): (row._mapping["count"], row.probability) for row in rows}


def labels_of(length: int, readings: Sequence[Reading]) -> dict[Any, Any]:
    return {
        (space.label_space, share.label): (share.count, share.peak.value)
        for space in summarize(length, readings).whole.label_spaces
        for share in space.labels
    }


async def agree(store: SessionStore, database: Database, dialogue_id: str) -> None:
    """The sums of a dialogue are those of its utterances."""
    read = await store.overviews.read("one", dialogue_id)
    readings = read.readings()
    valences = tally(read.length, ((each.index, each.final_valence) for each in readings))
    row = await stored_sums(database, dialogue_id)
    assert (
        row.valence_count,
        row.valence_total,
        row.first_count,
        row.first_total,
        row.last_count,
        row.last_total,
        row.valence,
        row.shift,
    ) == (
        valences.count,
        valences.total,
        valences.first_count,
        valences.first_total,
        valences.last_count,
        valences.last_total,
        valences.mean,
        valences.shift,
    )
    assert await stored_labels(database, dialogue_id) == labels_of(read.length, readings)


@pytest.mark.parametrize("seed", range(4))
async def test_sums_stay_those_of_the_utterances(
    store: SessionStore, database: Database, seed: int
) -> None:
    """After every write: with a valence and without, in two label spaces, corrected, taken back."""
    draw = random.Random(seed)
    for length in range(1, 26):
        figures = None
        if draw.random() < 0.9:
            valence = draw.choice([None, draw.randint(-UNIT, UNIT), draw.randint(-UNIT, UNIT)])
            figures = Figures(draw.choice(LABELS), draw.random(), valence)
        await say(store, "d", figures, label_space=draw.choice(["meld", "emorynlp"]))
        await agree(store, database, "d")
        if draw.random() < 0.5:
            label_space, label = draw.choice(["meld", "callers"]), draw.choice(LABELS)
            valence = draw.choice([None, draw.randint(-UNIT, UNIT)])
            await store.corrections.put(
                "one", "d", draw.randrange(length), label_space, label, valence=valence
            )
            await agree(store, database, "d")
        if draw.random() < 0.3:
            try:
                await store.corrections.remove("one", "d", draw.randrange(length))
            except CorrectionNotFound:
                continue
            await agree(store, database, "d")


async def test_an_unknown_dialogue_and_another_tenants_have_no_readings(
    store: SessionStore,
) -> None:
    await say(store, "d", Figures("joy", 0.5, 0), tenant="two")

    with pytest.raises(DialogueNotFound):
        await store.overviews.read("one", "d")


async def test_labels_go_with_their_dialogue(store: SessionStore, database: Database) -> None:
    await say(store, "d", Figures("joy", 0.5, 0))

    await store.delete("one", "d")

    assert await stored_labels(database, "d") == {}


async def ids(
    store: SessionStore,
    order: Order = Order.UPDATED,
    limit: int = 2,
    conditions: Conditions = ANY,
    tenant: str = "one",
) -> list[str]:
    """Of all pages, one after the other."""
    listed: list[str] = []
    after: Place | None = None
    while True:
        page = await store.overviews.page(tenant, order, limit, after, conditions)
        assert len(page.dialogues) <= limit
        listed += [each.id for each in page.dialogues]
        after = page.end
        if after is None:
            return listed


async def test_a_list_has_each_dialogue_of_the_tenant_once(store: SessionStore) -> None:
    """Newest first; those of another tenant, under the same ids, do not show."""
    for n in range(5):
        await say(store, f"d{n}", Figures("joy", 0.5, 0))
        await say(store, f"d{n}", Figures("joy", 0.5, 0), tenant="two")
    await say(store, "other", Figures("joy", 0.5, 0), tenant="two")
    await say(store, "d1", Figures("joy", 0.5, 0))

    assert await ids(store) == ["d1", "d4", "d3", "d2", "d0"]
    assert await ids(store, tenant="three") == []


async def test_dialogues_are_sorted_by_valence_and_fall(store: SessionStore) -> None:
    """Those without one are in neither list; equals are sorted by id."""
    valences: dict[str, tuple[int | None, ...]] = {
        "flat": (0, 0, 0),
        "flat too": (0, 0, 0),
        "falls": (UNIT, 0, -UNIT),
        "bad": (-UNIT, -UNIT, -UNIT),
        "rises": (-UNIT, 0, UNIT),
        "short": (UNIT,),
        "unknown": (None, None, None),
    }
    for dialogue_id, said in valences.items():
        for valence in said:
            await say(store, dialogue_id, Figures("joy", 0.5, valence))

    assert await ids(store, Order.VALENCE) == [
        "bad", "falls", "flat", "flat too", "rises", "short",
    ]  # fmt: skip
    assert await ids(store, Order.FALL) == ["falls", "bad", "flat", "flat too", "rises"]


async def test_a_list_shows_what_is_stored(store: SessionStore) -> None:
    await say(store, "d", Figures("joy", 0.5, UNIT), speaker="Ann")
    await say(store, "d", Figures("joy", 0.5, 0), speaker="Bob")
    await say(store, "d", Figures("joy", 0.5, -UNIT // 2), speaker="Ann")

    (overview,) = (await store.overviews.page("one", Order.UPDATED, 10)).dialogues

    expected = Overview("d", overview.created_at, overview.changed_at, 3, 2, overview.valence, -1.5)
    assert overview == expected
    assert overview.valence == pytest.approx(1 / 6)
    assert overview.created_at < overview.changed_at <= datetime.now(UTC)


async def test_conditions_choose_dialogues(store: SessionStore) -> None:
    """Labels by share and by probability, speakers, and the time of the last write."""
    await say(store, "angry", Figures("anger", 0.6, 0), speaker="Bob")
    await say(store, "angry", Figures("anger", 0.9, 0))
    await say(store, "mixed", Figures("anger", 0.4, 0))
    await say(store, "mixed", Figures("joy", 0.9, 0))
    await say(store, "mixed", Figures("anger", 0.9, 0), label_space="unified")
    begun = datetime.now(UTC)
    await say(store, "happy", Figures("joy", 0.9, 0), speaker="Bob", role="agent")

    async def having(share: float = 0.0, probability: float = 0.0) -> list[str]:
        label = LabelCondition("meld", "anger", share, probability)
        return await ids(store, conditions=Conditions(label=label))

    assert await having() == ["mixed", "angry"]
    assert await having(share=0.5) == ["mixed", "angry"]
    assert await having(share=0.51) == ["angry"]
    assert await having(probability=0.5) == ["angry"]
    assert await having(probability=0.95) == []
    assert await ids(store, conditions=Conditions(speaker="Bob")) == ["happy", "angry"]
    assert await ids(store, conditions=Conditions(speaker="Cy")) == []
    assert await ids(store, conditions=Conditions(role="agent")) == ["happy"]
    assert await ids(store, conditions=Conditions(role="Bob")) == []
    assert await ids(store, conditions=Conditions(updated_since=begun)) == ["happy"]
    later = Conditions(updated_since=begun + timedelta(days=1))
    assert await ids(store, Order.VALENCE, conditions=later) == []


async def test_a_page_looks_through_few_dialogues(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without a match still leads to the next, which may have one."""
    monkeypatch.setattr(overviews, "_LOOKED_THROUGH", 3)
    await say(store, "first", Figures("anger", 0.9, 0))
    for n in range(6):
        await say(store, f"d{n}", Figures("joy", 0.9, 0))
    anger = Conditions(label=LabelCondition("meld", "anger"))

    page = await store.overviews.page("one", Order.UPDATED, 2, None, anger)

    assert page.dialogues == ()
    assert page.end is not None
    assert page.end.dialogue_id == "d3"
    assert await ids(store, conditions=anger) == ["first"]


async def test_what_was_written_since_ends_where_older_dialogues_begin(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page after it looks through those, of which there may be any number."""
    monkeypatch.setattr(overviews, "_LOOKED_THROUGH", 3)
    for n in range(6):
        await say(store, f"old{n}", Figures("joy", 0.9, 0))
    since = Conditions(updated_since=datetime.now(UTC))
    await say(store, "new", Figures("joy", 0.9, 0))

    page = await store.overviews.page("one", Order.UPDATED, 2, None, since)

    assert [overview.id for overview in page.dialogues] == ["new"]
    assert page.end is None
