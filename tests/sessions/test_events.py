"""What happened to dialogues, in order, and who is told: on both databases."""

import asyncio

import pytest

from service.sessions.database import Database
from service.sessions.events import CorrectionChange, Events, Position
from service.sessions.records import Correction, StoredUtterance
from service.sessions.store import SessionStore
from tests.clock import PATIENT_S


async def say(store: SessionStore, dialogue_id: str, text: str) -> None:
    tail = await store.tail("one", dialogue_id, "Ann", 2)
    await store.append(tail, text=text, label_space="meld", prediction={"n": text})


async def beginning(events: Events, dialogue_id: str = "d") -> Position:
    position = await events.begin("one", dialogue_id)
    assert position is not None
    return position


async def test_events_come_in_the_order_of_the_writes(
    store: SessionStore, database: Database
) -> None:
    """A correction that was replaced is told as it was, in pages of any size."""
    events = Events(database)
    await say(store, "d", "a")
    await store.corrections.put("one", "d", 0, "meld", "joy")
    await say(store, "d", "b")
    await store.corrections.put("one", "d", 0, "meld", "anger")
    await store.corrections.remove("one", "d", 0)
    for limit in (1, 2, 10):
        position, events_read = await beginning(events), []
        while page := await events.after("one", "d", position, limit):
            assert len(page) <= limit
            events_read += page
            position = position.past(page[-1])

        assert [each.version.number for each in events_read] == [1, 2, 3, 4, 5]
        assert [
            each.what.text for each in events_read if isinstance(each.what, StoredUtterance)
        ] == [
            "a",
            "b",
        ]
        corrections = [
            each.what.correction for each in events_read if isinstance(each.what, CorrectionChange)
        ]
        assert [each and each.label for each in corrections] == ["joy", "anger", None]
        assert isinstance(corrections[0], Correction)


async def test_an_erased_dialogue_has_no_events(store: SessionStore, database: Database) -> None:
    """Nor has another one under its id, for who has read the first."""
    events = Events(database)
    await say(store, "d", "a")
    position = await beginning(events)
    await store.delete("one", "d")
    assert await events.after("one", "d", position, 10) is None

    await say(store, "d", "b")

    assert await events.after("one", "d", position, 10) is None
    assert len(await events.after("one", "d", await beginning(events), 10) or ()) == 1


async def test_another_tenants_dialogue_does_not_exist(
    store: SessionStore, database: Database
) -> None:
    """Whatever its id."""
    await say(store, "d", "a")

    assert await Events(database).begin("two", "d") is None


@pytest.mark.parametrize("here", [True, False], ids=["here", "elsewhere"])
async def test_who_follows_is_woken_by_every_write(
    store: SessionStore, database: Database, here: bool
) -> None:
    """Of this process at once; of another one soon, which a second store stands for."""
    writer = store if here else SessionStore(database)
    await say(store, "d", "a")
    woken = asyncio.Event()
    with store.followers.follow("one", "d", woken.set):
        await asyncio.wait_for(woken.wait(), PATIENT_S)  # nobody knows what it was before
        for write in (
            say(writer, "d", "b"),
            writer.corrections.put("one", "d", 0, "meld", "joy"),
            writer.corrections.remove("one", "d", 0),
            writer.delete("one", "d"),
        ):
            woken.clear()
            await write
            assert woken.is_set() or not here
            await asyncio.wait_for(woken.wait(), PATIENT_S)


async def test_one_task_asks_for_all_and_only_while_somebody_follows(store: SessionStore) -> None:
    """However many there are; a dialogue that nobody follows any more is forgotten."""
    before = len(asyncio.all_tasks())
    with store.followers.follow("one", "a", lambda: None):
        with store.followers.follow("one", "b", lambda: None):
            assert len(asyncio.all_tasks()) == before + 1
        assert len(asyncio.all_tasks()) == before + 1
    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == before
