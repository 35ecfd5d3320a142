"""Write dialogues so that a turn costs one wait: for one statement, or for one shared commit."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypedDict, TypeVar

from sqlalchemy import BigInteger, Integer, Row, Text, TextClause, bindparam, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.sessions.answers import FORGET, KEEP, AnswerRow, KeyTaken, keep_row
from service.sessions.database import Database, connect_to_sqlite
from service.sessions.erasure import (
    CUT,
    CUT_CHANGES,
    ERASE,
    FIND,
    FIND_EXPIRED,
    NOTE,
    PORTION,
    SHORTEN,
    Erased,
    Portion,
    portion,
)
from service.sessions.schema import UtcTime, answers, dialogues, utterances


class UtteranceRow(TypedDict):
    """An utterance to be stored.

    `index` is the dialogue's length before it, `generation` the dialogue's, `expected` the number
    of its version where that matters, `prediction` JSON.
    """

    tenant: str
    dialogue_id: str
    generation: int
    expected: int | None
    index: int
    speaker: str
    speaker_index: int
    text: str
    label_space: str
    prediction: str
    created_at: datetime
    description: str | None


class Writer(Protocol):
    """What it reports as done is on disk; what it fails at is not there.

    Raises SQLAlchemy's or sqlite3's errors.
    """

    async def append(self, row: UtteranceRow, answer: AnswerRow | None = None) -> int | None:
        """Store the dialogue's next utterance, and what is answered; index 0 creates the dialogue.

        Returns the number of the dialogue's version then. None: the dialogue is not as long as
        `index`, of another generation or version, or the answer's key has an answer; nothing is
        stored.
        """
        ...

    async def erase_portion(
        self,
        tenant: str,
        dialogue_id: str,
        generation: int | None = None,
        number: int | None = None,
        answer: AnswerRow | None = None,
    ) -> Erased | None:
        """Erase a dialogue's end, or with its last portion all of it, and keep what is answered.

        Args:
            generation, number: of the version that the dialogue must be of; None: any.

        None: there is no such dialogue, or the answer's key has an answer; nothing is erased.
        """
        ...

    async def erase_before(self, moment: datetime, limit: int) -> list[Erased]:
        """Erase a portion of the dialogues last written before a moment, oldest first.

        At most `limit` dialogues, one of which may not be whole.
        """
        ...

    async def ping(self) -> None:
        """Return when this process may write."""
        ...

    async def close(self) -> None: ...


def open_writer(database: Database) -> Writer:
    """The writer for this kind of database."""
    return SqliteWriter(database) if database.dialect == "sqlite" else PostgresqlWriter(database)


_CREATE = """
INSERT INTO dialogues
    (tenant, id, generation, created_at, changed_at, version, length, speaker_count)
VALUES
    (:tenant, :dialogue_id, :generation, :created_at, :created_at, 1, 1, :speaker_index + 1)
ON CONFLICT (tenant, id) DO NOTHING
RETURNING version"""

# Holds the dialogue's row until the commit, so that writers take turns.
_GROW = """
UPDATE dialogues SET
    length = length + 1,
    version = version + 1,
    changed_at = :created_at,
    speaker_count = CASE
        WHEN speaker_count > :speaker_index THEN speaker_count ELSE :speaker_index + 1 END
WHERE tenant = :tenant AND id = :dialogue_id
    AND length = :index AND generation = :generation
    AND version = coalesce(:expected, version)
RETURNING version"""

_ADD = """
INSERT INTO utterances
    (tenant, dialogue_id, "index", speaker, speaker_index, text, label_space, prediction,
    created_at, description, version)"""


class PostgresqlWriter:
    """Writes to PostgreSQL, whose connections share commits by themselves.

    An append is one statement, which is a transaction of its own: one round trip, and a dialogue
    whose row another process holds keeps no other waiting.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, row: UtteranceRow, answer: AnswerRow | None = None) -> int | None:
        answered = answer is not None
        statement = _POSTGRESQL_GROW[answered] if row["index"] else _POSTGRESQL_CREATE[answered]
        return await self._write(statement, {**(answer or {}), **row})

    async def erase_portion(
        self,
        tenant: str,
        dialogue_id: str,
        generation: int | None = None,
        number: int | None = None,
        answer: AnswerRow | None = None,
    ) -> Erased | None:
        values = _the_dialogue(tenant, dialogue_id, generation, number)

        async def erase(connection: AsyncConnection) -> Erased | None:
            row = (await connection.execute(_POSTGRESQL_FIND, values)).one_or_none()
            if row is None:
                return None
            erased = await self._erase(connection, portion(*row))
            if erased.whole and answer is not None:
                await keep_row(connection, answer)
            return erased

        try:
            return await self._database.transaction(erase)
        except KeyTaken:
            return None

    async def erase_before(self, moment: datetime, limit: int) -> list[Erased]:
        values = {"before": moment, "limit": limit}

        async def erase(connection: AsyncConnection) -> list[Erased]:
            rows = (await connection.execute(_POSTGRESQL_FIND_EXPIRED, values)).all()
            return [await self._erase(connection, each) for each in _together(map(_portion, rows))]

        return await self._database.transaction(erase)

    async def ping(self) -> None:
        async def lock(connection: AsyncConnection) -> None:
            # Refused where only reading is possible, and where a migration keeps the table.
            await connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            await connection.execute(text("LOCK TABLE dialogues IN ROW EXCLUSIVE MODE"))

        await self._database.transaction(lock)

    async def _erase(self, connection: AsyncConnection, each: Portion) -> Erased:
        counts = [
            (await connection.execute(statement, each.begins)).rowcount
            for statement in (_POSTGRESQL_FORGET, _POSTGRESQL_CUT_CHANGES)
        ]
        last = each.is_last(*counts)
        values = each.ends(last=last)
        noted = (await connection.execute(_POSTGRESQL_NOTE, values)).scalars().all()
        await connection.execute(_POSTGRESQL_CUT, values)
        await connection.execute(_POSTGRESQL_ERASE if last else _POSTGRESQL_SHORTEN, values)
        return each.erased(list(noted), last=last)

    async def close(self) -> None:
        pass  # the connections are the database's

    async def _write(self, statement: TextClause, values: Mapping[str, Any]) -> int | None:
        async def write(connection: AsyncConnection) -> int | None:
            try:
                found: int | None = (await connection.execute(statement, values)).scalar()
            except IntegrityError as error:
                if _ANSWERS_KEY in str(error.orig):
                    return None
                raise
            return found

        return await self._database.run(write)


def _portion(row: Row[*tuple[Any, ...]]) -> Portion:
    return portion(*row)


def _together(portions: Iterable[Portion]) -> Iterator[Portion]:
    """Those that are erased in one transaction: at least one, and no more than that has room."""
    utterances = 0
    for each in portions:
        if utterances and utterances + each.length > PORTION:
            return
        utterances += each.length
        yield each


def _the_dialogue(
    tenant: str, dialogue_id: str, generation: int | None, number: int | None
) -> dict[str, str | int | None]:
    return {
        "tenant": tenant,
        "dialogue_id": dialogue_id,
        "expected": number,
        "generation": generation,
    }


_ANSWERS_KEY = str(answers.primary_key.name)

_KEEP_WRITTEN = """answered AS (
INSERT INTO answers (tenant, key, request, status, body, location, created_at, dialogue_id)
    SELECT :tenant, :key, :request, :status, :body, :location, :created_at, :dialogue_id
    FROM written)"""


def _typed(statement: str) -> TextClause:
    # Without their types, PostgreSQL would take all of them for text.
    columns = (*utterances.c, *answers.c, dialogues.c.generation)
    types = {column.name: column.type for column in columns}
    types |= {"prediction": Text(), "expected": Integer()}  # the prediction is JSON already
    types |= {"before": UtcTime(), "limit": BigInteger(), "mark": BigInteger(), "kept": Integer()}
    clause = text(statement)
    return clause.bindparams(*(bindparam(name, type_=types[name]) for name in clause._bindparams))


_ADD_WRITTEN = f"""added AS ({_ADD}
    SELECT :tenant, :dialogue_id, :index, :speaker, :speaker_index, :text, :label_space,
        CAST(:prediction AS json), :created_at, :description, version
    FROM written)"""


def _appending(written: str) -> tuple[TextClause, TextClause]:
    """One statement for all tables: without an answer, with one; both give the version."""
    begin = f"WITH written AS ({written}), {_ADD_WRITTEN}"
    found = "SELECT version FROM written"
    return _typed(f"{begin} {found}"), _typed(f"{begin}, {_KEEP_WRITTEN} {found}")


_POSTGRESQL_CREATE = _appending(_CREATE)
_POSTGRESQL_GROW = _appending(_GROW)
_POSTGRESQL_FIND = _typed(f"{FIND} FOR UPDATE")
# What another process writes or erases just now is left to it.
_POSTGRESQL_FIND_EXPIRED = _typed(f"{FIND_EXPIRED} FOR UPDATE SKIP LOCKED")
_POSTGRESQL_FORGET = _typed(FORGET)
_POSTGRESQL_CUT_CHANGES = _typed(CUT_CHANGES)
_POSTGRESQL_NOTE = _typed(NOTE)
_POSTGRESQL_CUT = _typed(CUT)
_POSTGRESQL_SHORTEN = _typed(SHORTEN)
_POSTGRESQL_ERASE = _typed(ERASE)


_SQLITE_ADD = f"""{_ADD}
VALUES (:tenant, :dialogue_id, :index, :speaker, :speaker_index, :text, :label_space, :prediction,
    :created_at, :description, :version)"""

_ANSWERED = "SELECT 1 FROM answers WHERE tenant = :tenant AND key = :key"

# Writes within a transaction; None: nothing was written.
Outcome = TypeVar("Outcome")
_Work = Callable[[sqlite3.Connection], Outcome | None]


class SqliteWriter:
    """Writes to a SQLite file, from a thread of its own.

    SQLite has one writer at a time, and a commit waits for the disk. What arrives during a commit
    goes into the next one together; each append still has an outcome of its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: SimpleQueue[_Job | None] | None = None
        self._thread: Thread | None = None

    async def append(self, row: UtteranceRow, answer: AnswerRow | None = None) -> int | None:
        values = {**row, "created_at": _sqlite_time(row["created_at"])}

        def write(connection: sqlite3.Connection) -> int | None:
            if _is_answered(connection, answer):
                return None
            version = connection.execute(_GROW if row["index"] else _CREATE, values).fetchone()
            if version is None:
                return None
            connection.execute(_SQLITE_ADD, {**values, "version": version[0]})
            _keep(connection, answer)
            return int(version[0])

        return await self._do(write)

    async def erase_portion(
        self,
        tenant: str,
        dialogue_id: str,
        generation: int | None = None,
        number: int | None = None,
        answer: AnswerRow | None = None,
    ) -> Erased | None:
        values = _the_dialogue(tenant, dialogue_id, generation, number)

        def erase(connection: sqlite3.Connection) -> Erased | None:
            if _is_answered(connection, answer):
                return None
            found = connection.execute(FIND, values).fetchone()
            if found is None:
                return None
            erased = _erase(connection, portion(*found))
            if erased.whole:
                _keep(connection, answer)
            return erased

        return await self._do(erase)

    async def erase_before(self, moment: datetime, limit: int) -> list[Erased]:
        values = {"before": _sqlite_time(moment), "limit": limit}

        def erase(connection: sqlite3.Connection) -> list[Erased] | None:
            found = connection.execute(FIND_EXPIRED, values).fetchall()
            portions = _together(portion(*row) for row in found)
            return [_erase(connection, each) for each in portions] or None

        return await self._do(erase) or []

    async def ping(self) -> None:
        await self._do(lambda _: None)  # its transaction takes the lock

    async def close(self) -> None:
        """Wait for what was begun, then close the connection."""
        if self._jobs is None or self._thread is None:
            return
        jobs, thread = self._jobs, self._thread
        self._jobs = self._thread = None
        jobs.put(None)
        await asyncio.to_thread(thread.join)

    async def _do(self, work: _Work[Outcome]) -> Outcome | None:
        if self._jobs is None:
            self._jobs = SimpleQueue()
            self._thread = Thread(
                target=_write,
                args=(self._database.engine, self._jobs),
                name="sqlite-writer",
                daemon=True,
            )
            self._thread.start()
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._jobs.put(job)
        outcome: Outcome | None = await job.outcome
        return outcome


@dataclass(frozen=True, slots=True)
class _Job:
    """An append or an erasure, and who waits for its outcome."""

    work: _Work[Any]
    outcome: asyncio.Future[Any]


def _is_answered(connection: sqlite3.Connection, answer: AnswerRow | None) -> bool:
    if answer is None:
        return False
    key = {"tenant": answer["tenant"], "key": answer["key"]}
    return connection.execute(_ANSWERED, key).fetchone() is not None


def _keep(connection: sqlite3.Connection, answer: AnswerRow | None) -> None:
    if answer is not None:
        connection.execute(KEEP, {**answer, "created_at": _sqlite_time(answer["created_at"])})


def _erase(connection: sqlite3.Connection, each: Portion) -> Erased:
    counts = [
        connection.execute(statement, each.begins).rowcount for statement in (FORGET, CUT_CHANGES)
    ]
    last = each.is_last(*counts)
    values = each.ends(last=last)
    noted = connection.execute(NOTE, values).fetchall()
    connection.execute(CUT, values)
    connection.execute(ERASE if last else SHORTEN, values)
    return each.erased([demonstration_id for (demonstration_id,) in noted], last=last)


def _write(engine: AsyncEngine, jobs: "SimpleQueue[_Job | None]") -> None:
    """The thread: one group of jobs after the other, until a None."""
    connection: sqlite3.Connection | None = None
    ended = False
    while not ended:
        arrived = _wait_for(jobs)
        ended = None in arrived
        group = [job for job in arrived if job is not None]
        try:
            connection = connection or connect_to_sqlite(engine)
            _commit(connection, group)
        except Exception as error:  # whatever it is, those who wait must hear it
            _settle([(job, error) for job in group])
            if connection is not None:
                connection.close()  # which rolls back
                connection = None
        del arrived, group  # what was said is not kept until the next job
    if connection is not None:
        connection.close()


def _wait_for(jobs: "SimpleQueue[_Job | None]") -> list["_Job | None"]:
    """All that has arrived, at least one."""
    arrived = [jobs.get()]
    with suppress(Empty):
        while True:
            arrived.append(jobs.get_nowait())
    return arrived


def _commit(connection: sqlite3.Connection, group: Sequence[_Job]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    outcomes = [(job, _try(connection, job)) for job in group if not job.outcome.cancelled()]
    connection.execute("COMMIT")
    _settle(outcomes)


def _try(connection: sqlite3.Connection, job: _Job) -> Any:
    """What the job did; one that fails leaves nothing in the transaction."""
    connection.execute("SAVEPOINT job")
    try:
        outcome: Any = job.work(connection)
    except Exception as error:  # whatever it is, it is this job's alone
        connection.execute("ROLLBACK TO job")
        outcome = error
    connection.execute("RELEASE job")
    return outcome


def _settle(outcomes: Sequence[tuple[_Job, Any]]) -> None:
    """Tell the event loop, once for all of them."""
    if outcomes:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            outcomes[0][0].outcome.get_loop().call_soon_threadsafe(_tell, outcomes)


def _tell(outcomes: Sequence[tuple[_Job, Any]]) -> None:
    for job, outcome in outcomes:
        if job.outcome.done():  # cancelled, or told before
            continue
        if isinstance(outcome, Exception):
            job.outcome.set_exception(outcome)
        else:
            job.outcome.set_result(outcome)


def _sqlite_time(moment: datetime) -> str:
    """As SQLAlchemy stores a `UtcTime`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
