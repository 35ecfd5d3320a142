"""Appends that arrive together share a commit, and each has an outcome of its own."""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from time import monotonic
from typing import Any, ClassVar

import pytest
from sqlalchemy import text as sql

from service.errors import DatabaseUnavailable, DialogueNotFound
from service.sessions import sqlite_writer
from service.sessions.database import Database, open_database
from service.sessions.engines import connect_to_sqlite, transactional
from service.sessions.migrate import migrate
from service.sessions.records import StoredUtterance
from service.sessions.store import Conflict, SessionStore
from service.sessions.tails import Tail
from tests.clock import PATIENT_S


async def append(store: SessionStore, tail: Tail, text: str = "Hello.") -> StoredUtterance:
    return (await store.append(tail, text=text, label_space="meld", prediction={})).utterance


async def begin(store: SessionStore, *dialogue_ids: str) -> list[Tail]:
    """One line in each dialogue; the tails for the next."""
    for dialogue_id in dialogue_ids:
        await append(store, await store.tail("default", dialogue_id, "Ann", 2))
    return [await store.tail("default", dialogue_id, "Ann", 2) for dialogue_id in dialogue_ids]


async def length(store: SessionStore, dialogue_id: str) -> int:
    return len((await store.timeline("default", dialogue_id)).utterances)


@pytest.fixture
async def sqlite_database(sqlite_url: str) -> AsyncIterator[Database]:
    database = open_database(sqlite_url)
    await migrate(database)
    yield database
    await database.close()


class Traced(sqlite3.Connection):
    """Keeps what it was told, and fails where it is told to."""

    said: ClassVar[list[str]] = []
    fails_at: ClassVar[str] = ""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == Traced.fails_at:
            Traced.fails_at = ""
            failure = sqlite3.OperationalError("disk I/O error")
            failure.sqlite_errorcode = sqlite3.SQLITE_IOERR
            failure.sqlite_errorname = "SQLITE_IOERR"
            raise failure
        Traced.said.append(statement)
        return super().execute(statement, *values)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> type[Traced]:
    """The connection of every SQLite writer that is opened in the test."""
    connect = sqlite3.connect
    Traced.said, Traced.fails_at = [], ""

    def connect_traced(database: Database) -> sqlite3.Connection:
        with monkeypatch.context() as patch:
            patch.setattr(
                sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Traced)
            )
            return connect_to_sqlite(database.engine)

    monkeypatch.setattr(sqlite_writer, "connect_to_sqlite", connect_traced)
    return Traced


@pytest.fixture
def sqlite_store(sqlite_database: Database) -> SessionStore:
    return SessionStore(sqlite_database)


@pytest.fixture
def other_writer(sqlite_database: Database) -> Iterator[sqlite3.Connection]:
    """Another process's connection to the SQLite file."""
    with closing(connect_to_sqlite(sqlite_database.engine)) as connection:
        yield connection


async def settled_loop(tasks: list[asyncio.Task[StoredUtterance]]) -> None:
    """Every task has come as far as it can by itself."""
    for _ in range(5 * len(tasks)):
        await asyncio.sleep(0)


async def test_appends_that_wait_for_the_disk_share_the_next_commit(
    traced: type[Traced], sqlite_store: SessionStore, other_writer: sqlite3.Connection
) -> None:
    """Twenty of them, while another process writes: one commit for the first of them, if it got
    ahead, and one for the others; none is reported before.
    """
    tails = await begin(sqlite_store, *(f"call-{n}" for n in range(20)))
    other_writer.execute("BEGIN IMMEDIATE")
    traced.said.clear()
    tasks = [asyncio.create_task(append(sqlite_store, tail)) for tail in tails]
    await settled_loop(tasks)
    assert not any(task.done() for task in tasks)

    other_writer.execute("COMMIT")
    stored = await asyncio.gather(*tasks)

    assert [utterance.index for utterance in stored] == [1] * 20
    assert traced.said.count("COMMIT") <= 2
    assert [await length(sqlite_store, tail.dialogue_id) for tail in tails] == [2] * 20
    await sqlite_store.close()


async def test_in_a_group_each_append_has_an_outcome_of_its_own(
    sqlite_store: SessionStore, other_writer: sqlite3.Connection
) -> None:
    """One in a dialogue that went on, one in a dialogue whose rows are broken, a first line of a
    dialogue that exists, an erasure and an append behind it: the others are stored.
    """
    names = ["fine", "went on", "broken", "erased", "fine too"]
    fine, went_on, broken, erased, fine_too = await begin(sqlite_store, *names)
    other_writer.execute("UPDATE dialogues SET length = 7 WHERE id = 'went on'")
    other_writer.execute("UPDATE utterances SET \"index\" = 1 WHERE dialogue_id = 'broken'")
    other_writer.execute("BEGIN IMMEDIATE")
    appends = [fine, went_on, broken, replace(fine, length=0)]
    tasks = [asyncio.create_task(append(sqlite_store, tail)) for tail in appends]
    await settled_loop(tasks)
    erasure = asyncio.create_task(sqlite_store.delete("default", "erased"))
    await settled_loop(tasks)
    tasks += [asyncio.create_task(append(sqlite_store, tail)) for tail in (erased, fine_too)]
    await settled_loop(tasks)

    other_writer.execute("COMMIT")
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await erasure

    assert [type(outcome) for outcome in outcomes] == [
        StoredUtterance,
        Conflict,
        sqlite3.IntegrityError,  # which nothing outside of this program explains
        Conflict,
        Conflict,
        StoredUtterance,
    ]
    lengths = dict(other_writer.execute("SELECT id, length FROM dialogues"))
    assert lengths == {"fine": 2, "went on": 7, "broken": 1, "fine too": 2}
    stored = dict(
        other_writer.execute("SELECT dialogue_id, count(*) FROM utterances GROUP BY dialogue_id")
    )
    assert stored == {"fine": 2, "went on": 1, "broken": 1, "fine too": 2}
    await sqlite_store.close()


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "RELEASE job", "COMMIT"])
async def test_a_group_that_cannot_be_committed_is_not_reported_as_stored(
    traced: type[Traced], sqlite_store: SessionStore, statement: str
) -> None:
    """Everybody hears it, nothing is there, and the next append finds the writer in order."""
    tails = await begin(sqlite_store, *(f"call-{n}" for n in range(5)))
    traced.fails_at = statement

    outcomes = await asyncio.gather(
        *(append(sqlite_store, tail) for tail in tails), return_exceptions=True
    )

    failed = [isinstance(outcome, DatabaseUnavailable) for outcome in outcomes]
    assert any(failed)
    lengths = [await length(sqlite_store, tail.dialogue_id) for tail in tails]
    assert lengths == [1 if lost else 2 for lost in failed]
    for tail, lost in zip(tails, failed, strict=True):
        if lost:
            assert (await append(sqlite_store, tail)).index == 1
    await sqlite_store.close()


async def test_an_append_cancelled_in_a_group_is_not_stored_and_the_others_are(
    sqlite_store: SessionStore, other_writer: sqlite3.Connection
) -> None:
    """It was given up before its turn came."""
    one, two, three = await begin(sqlite_store, "one", "two", "three")
    other_writer.execute("BEGIN IMMEDIATE")
    tasks = [asyncio.create_task(append(sqlite_store, tail)) for tail in (one, two, three)]
    await settled_loop(tasks)
    tasks[1].cancel()
    await settled_loop(tasks)

    other_writer.execute("COMMIT")
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [
        StoredUtterance,
        asyncio.CancelledError,
        StoredUtterance,
    ]
    assert [await length(sqlite_store, name) for name in ("one", "two", "three")] == [2, 1, 2]
    await sqlite_store.close()


async def test_closing_waits_for_what_was_begun(
    sqlite_store: SessionStore, other_writer: sqlite3.Connection
) -> None:
    """What was handed over before is stored and reported; a closed store opens itself again."""
    (tail,) = await begin(sqlite_store, "call-42")
    other_writer.execute("BEGIN IMMEDIATE")
    task = asyncio.create_task(append(sqlite_store, tail))
    await settled_loop([task])
    closing = asyncio.create_task(sqlite_store.close())
    done, _ = await asyncio.wait([closing], timeout=0.3)
    assert not done

    other_writer.execute("COMMIT")
    await closing

    assert task.done()
    assert (await task).index == 1
    assert (
        await append(sqlite_store, await sqlite_store.tail("default", "call-42", "Ann", 2))
    ).index == 2
    await sqlite_store.close()


async def test_an_idle_writer_holds_nothing_of_what_was_said(sqlite_store: SessionStore) -> None:
    """It would outlive an erasure until the next append."""
    others = set(threading.enumerate())
    await begin(sqlite_store, "call-42")
    (thread,) = (t for t in set(threading.enumerate()) - others if t.name == "sqlite-writer")

    # It has reported a moment before it lets go.
    deadline = monotonic() + PATIENT_S
    while any(isinstance(value, list) for value in variables_of(thread)):
        assert monotonic() < deadline

    await sqlite_store.close()


def variables_of(thread: threading.Thread) -> Iterator[object]:
    """The local variables of every function that the thread is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        yield from frame.f_locals.values()
        frame = frame.f_back


async def test_a_dialogue_erased_twice_at_once_was_there_once(store: SessionStore) -> None:
    """The second finds nothing."""
    await begin(store, "call-42")

    outcomes = await asyncio.gather(
        store.delete("default", "call-42"),
        store.delete("default", "call-42"),
        return_exceptions=True,
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == [
        DialogueNotFound.__name__,
        tuple.__name__,
    ]


async def test_in_postgresql_a_dialogue_that_is_held_keeps_no_other_waiting(
    postgres_url: str,
) -> None:
    """Another process holds one dialogue's row; the turns of the others go on."""
    database = open_database(postgres_url)
    await migrate(database)
    store = SessionStore(database)
    held, free = await begin(store, "held", "free")
    async with transactional(database.engine).begin() as connection:
        await connection.execute(sql("UPDATE dialogues SET length = length WHERE id = 'held'"))
        waiting = asyncio.create_task(append(store, held))

        assert (await append(store, free)).index == 1
        assert not waiting.done()

    assert (await waiting).index == 1
    await store.close()


async def test_a_postgresql_with_stricter_isolation_still_tells_a_conflict(
    postgres_url: str,
) -> None:
    """Its owner may have made every transaction serializable; who comes second is told to retry."""
    database = open_database(postgres_url)
    async with database.engine.connect() as connection:
        name = (await connection.execute(sql("SELECT current_database()"))).scalar_one()
        await connection.execute(
            sql(f"ALTER DATABASE {name} SET default_transaction_isolation TO 'serializable'")
        )
    await database.close()
    await migrate(database)
    store = SessionStore(database)
    (tail,) = await begin(store, "call-42")
    async with transactional(database.engine).begin() as connection:
        await connection.execute(sql("UPDATE dialogues SET length = length + 1"))
        late = asyncio.create_task(append(store, tail))
        while not await blocked(database):
            assert not late.done()

    with pytest.raises(Conflict):
        await late
    await store.close()


async def blocked(database: Database) -> bool:
    """Whether a statement waits for another transaction."""
    async with database.engine.connect() as connection:
        waiting = sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool((await connection.execute(waiting)).scalar_one())
