"""Corrections are stored with a note of what is to be delivered, and erased with their dialogue."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from service.conversation.dialogue import Demonstration
from service.errors import (
    CorrectionNotFound,
    DatabaseUnavailable,
    DialogueChanged,
    DialogueFull,
    DialogueNotFound,
    UtteranceNotFound,
)
from service.sessions.corrections import Corrected
from service.sessions.database import Database, open_database
from service.sessions.idempotency import AlreadyAnswered, Answer, Key, Once
from service.sessions.migrate import migrate
from service.sessions.records import Expected, StoredUtterance
from service.sessions.schema import answers, corrections, dialogues, metadata
from service.sessions.store import SessionStore


async def say(store: SessionStore, text: str, name: str = "call-42", tenant: str = "one") -> None:
    tail = await store.tail(tenant, name, "Ann", 2)
    await store.append(tail, text=text, label_space="meld", prediction={})


async def counts(database: Database) -> dict[str, int]:
    async with database.engine.connect() as connection:
        return {
            table.name: (
                await connection.execute(select(func.count()).select_from(table))
            ).scalar_one()
            for table in metadata.sorted_tables
        }


async def test_a_correction_is_stored_with_what_is_to_be_delivered(store: SessionStore) -> None:
    """Each change is noted anew, and what is wanted is what holds when it is delivered."""
    await say(store, "We won!")
    first = await store.corrections.put("one", "call-42", 0, "meld", "joy")
    second = await store.corrections.put("one", "call-42", 0, "meld", "surprise")

    name = first.pending.demonstration_id
    assert second.pending.demonstration_id == name
    assert await store.deliveries.pending(10) == [second.pending]
    wanted = await store.deliveries.wanted(first.pending)
    assert wanted is not None
    assert wanted.demonstration == Demonstration(name, "meld", "surprise", "We won!")
    assert wanted.before == ()
    assert await store.deliveries.delivered(first.pending) == second.pending
    assert await store.deliveries.delivered(second.pending) is None
    assert await store.deliveries.pending(10) == []

    overtaken = await store.deliveries.delivered(first.pending)  # which another process delivered
    assert overtaken is not None
    assert await store.deliveries.pending(10) == [overtaken]
    assert await store.deliveries.delivered(overtaken) is None

    removed = await store.corrections.remove("one", "call-42", 0)
    assert await store.deliveries.wanted(removed.pending) is None
    assert await store.deliveries.pending(10) == [removed.pending]


async def test_what_is_not_there_cannot_be_corrected(store: SessionStore) -> None:
    """Neither another tenant's."""
    await say(store, "We won!")

    for tenant, name, index, error in (
        ("two", "call-42", 0, DialogueNotFound),
        ("one", "call-43", 0, DialogueNotFound),
        ("one", "call-42", 1, UtteranceNotFound),
    ):
        with pytest.raises(error):
            await store.corrections.put(tenant, name, index, "meld", "joy")
        with pytest.raises(error):
            await store.corrections.remove(tenant, name, index)
    with pytest.raises(CorrectionNotFound):
        await store.corrections.remove("one", "call-42", 0)
    with pytest.raises(DialogueChanged):
        await store.corrections.put("one", "call-42", 0, "meld", "joy", Expected(frozenset()))


async def test_of_corrections_and_turns_at_once_all_are_stored(
    store: SessionStore, url: str
) -> None:
    """Each makes a version of its own, in two processes too."""
    other = SessionStore(open_database(url))
    for n in range(4):
        await say(store, f"line {n}")

    outcomes = await asyncio.gather(
        *(
            s.corrections.put("one", "call-42", n, "meld", "joy")
            for s in (store,)
            for n in range(2)
        ),
        *(other.corrections.put("one", "call-42", n, "meld", "joy") for n in (2, 3)),
        other.corrections.put("one", "call-42", 0, "meld", "fear"),
    )
    await other.close()

    assert {corrected.version.number for corrected in outcomes} <= set(range(5, 10))
    timeline = await store.timeline("one", "call-42")
    assert timeline.version.number == 9
    assert all(u.correction is not None for u in timeline.utterances)


async def test_of_processes_that_take_back_the_same_under_one_key_each_is_answered(
    store: SessionStore, url: str
) -> None:
    """One of them does it."""
    other = SessionStore(open_database(url))
    await say(store, "We won!")
    await store.corrections.put("one", "call-42", 0, "meld", "joy")
    once: Once[None] = Once(Key("one", "k-1", "hash"), lambda _: Answer(204))

    outcomes = await asyncio.gather(
        *(s.corrections.remove("one", "call-42", 0, None, once) for s in (store, other)),
        return_exceptions=True,
    )
    await other.close()

    assert sum(isinstance(outcome, AlreadyAnswered) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1


async def test_an_erasure_notes_the_demonstrations_that_are_to_go(
    store: SessionStore, database: Database
) -> None:
    """Nothing of the dialogue is left in any table but these notes, which hold no text."""
    for n in range(3):
        await say(store, f"line {n}")
    noted = [
        (await store.corrections.put("one", "call-42", n, "meld", "joy")).pending for n in range(2)
    ]
    await store.deliveries.delivered(noted[0])

    pending = await store.delete("one", "call-42")

    assert {p.demonstration_id for p in pending} == {p.demonstration_id for p in noted}
    assert set(await store.deliveries.pending(10)) == set(pending)
    assert await counts(database) == {
        "dialogues": 0,
        "dialogue_labels": 0,
        "utterance_counts": 0,
        "utterances": 0,
        "changes": 0,
        "corrections": 0,
        "answers": 0,
        "deliveries": 2,
        "jobs": 0,
        "label_spaces": 0,
        "job_work": 0,
        "job_results": 0,
        "webhooks": 0,
    }


async def test_dialogues_last_written_long_ago_are_erased_oldest_first(
    store: SessionStore, database: Database
) -> None:
    """As many at a time as are asked for, whosever they are, with what is remembered of them."""
    now = datetime.now(UTC)
    for n in range(5):
        await say(store, "My door code.", f"call-{n}", tenant=f"tenant-{n % 2}")
        await store.corrections.put(f"tenant-{n % 2}", f"call-{n}", 0, "meld", "joy")
        async with database.engine.connect() as connection:
            moment = now - timedelta(hours=n)
            the = update(dialogues).where(dialogues.c.id == f"call-{n}")
            await connection.execute(the.values(changed_at=moment))
    await say(store, "Still here.", "call-4", tenant="tenant-0")  # which is a write

    before = now - timedelta(minutes=1)
    first = await store.erase_before(before, limit=2)
    second = await store.erase_before(before, limit=2)

    assert [each.dialogue_id for each in first] == ["call-3", "call-2"]
    assert [each.dialogue_id for each in second] == ["call-1"]
    assert [len(each.pending) for each in first] == [1, 1]
    assert await store.erase_before(before, limit=2) == []
    assert (await counts(database))["dialogues"] == 2
    assert (await store.tail("tenant-1", "call-3", "Ann", 2)).length == 0


async def test_what_expired_is_gone_from_the_sqlite_files(sqlite_url: str, tmp_path: Path) -> None:
    """Text, correction and kept answer, while the service runs on."""
    database = open_database(sqlite_url)
    await migrate(database)
    store = SessionStore(database)

    def bytes_on_disk() -> bytes:
        return b"".join(file.read_bytes() for file in tmp_path.iterdir())

    tail = await store.tail("one", "secret-call", "Ann", 2)
    once: Once[StoredUtterance] = Once(
        Key("one", "k-1", "hash"), lambda stored: Answer(201, stored.text)
    )
    await store.append(
        tail, text="My door code is 4711. " * 300, label_space="meld", prediction={}, once=once
    )
    await store.corrections.put("one", "secret-call", 0, "meld", "joy")

    await store.erase_before(datetime.now(UTC), limit=10)

    assert b"door code" not in bytes_on_disk()
    assert b"secret-call" not in bytes_on_disk()
    await store.close()


def test_no_table_keeps_what_an_erasure_does_not_know() -> None:
    """A table that tells of dialogues is erased with them."""
    for table in (answers, corrections):
        (key,) = table.foreign_key_constraints
        assert key.ondelete == "CASCADE"


async def test_a_correction_keeps_its_answer_with_itself(
    store: SessionStore, database: Database
) -> None:
    """Both or none; asked again it is told, also once others have corrected it since."""
    await say(store, "We won!")
    key = Key("one", "k-1", "hash")

    def once(answer: str) -> Once[Corrected]:
        return Once(key, lambda corrected: Answer(200, f"{answer} {corrected.version.number}"))

    await store.corrections.put("one", "call-42", 0, "meld", "joy", once=once("first"))
    await store.corrections.put("one", "call-42", 0, "meld", "fear")
    with pytest.raises(AlreadyAnswered) as told:
        await store.corrections.put("one", "call-42", 0, "meld", "joy", once=once("second"))

    assert told.value.answer == Answer(200, "first 2")
    [utterance] = (await store.timeline("one", "call-42")).utterances
    assert utterance.correction is not None
    assert utterance.correction.label == "fear"
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("ALTER TABLE answers RENAME TO away")
    with pytest.raises(DatabaseUnavailable):
        await store.corrections.put("one", "call-42", 0, "meld", "anger", once=once("third"))
    [utterance] = (await store.timeline("one", "call-42")).utterances
    assert utterance.correction is not None
    assert utterance.correction.label == "fear"


async def test_a_dialogue_is_corrected_only_so_often(store: SessionStore) -> None:
    """What is said already is no change, and what was said can be taken back."""
    await say(store, "We won!")
    for label in ("joy", "fear"):
        await store.corrections.put("one", "call-42", 0, "meld", label, most_changes=3)

    await store.corrections.put("one", "call-42", 0, "meld", "fear", most_changes=3)
    with pytest.raises(DialogueFull):
        await store.corrections.put("one", "call-42", 0, "meld", "joy", most_changes=3)
    assert (await store.corrections.remove("one", "call-42", 0)).version.number == 4
