"""Writes dialogues to a SQLite file: the appends that arrive together share a commit."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from service.sessions.database import Database
from service.sessions.engines import connect_to_sqlite
from service.sessions.erasure import Erased, ErasureStatements, Portion, portion, portions, to_find
from service.sessions.idempotency import AnswerRow
from service.sessions.progress import CutCounts, count_utterance, part_of
from service.sessions.schema import (
    SQLITE,
    CompiledStatement,
    answers,
    compile_once,
    parameters_of,
    utterances,
)
from service.sessions.tallies import count_label, growth
from service.sessions.webhooks import ADD_WEBHOOK, WebhookRow
from service.sessions.writer import (
    GROW_DIALOGUE,
    UtteranceRow,
    create_dialogue,
    utterance_parameters,
)

_CREATE = compile_once(create_dialogue(SQLITE), SQLITE)
_GROW = compile_once(GROW_DIALOGUE, SQLITE)
_ADD = compile_once(insert(utterances).values(utterance_parameters()), SQLITE)
_COUNT_LABEL = compile_once(count_label(SQLITE), SQLITE)
_COUNT = compile_once(count_utterance(SQLITE), SQLITE)
_TELL = compile_once(ADD_WEBHOOK, SQLITE)
_KEEP = compile_once(insert(answers).values(parameters_of(answers)), SQLITE)
_ANSWERED = compile_once(
    select(answers.c.key).where(
        answers.c.tenant == bindparam("tenant"), answers.c.key == bindparam("key")
    ),
    SQLITE,
)
_ERASURE = ErasureStatements.compiled_for(SQLITE)

# Writes within a transaction; None: nothing was written.
Outcome = TypeVar("Outcome")
_Work = Callable[[sqlite3.Connection], Outcome | None]


class SqliteWriter:
    """Writes to a SQLite file, from a thread of its own.

    SQLite has one writer at a time, and a commit waits for the disk. The jobs that arrive during a
    commit share the next one; each still has an outcome of its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: SimpleQueue[_Job | None] | None = None
        self._thread: Thread | None = None

    async def append(
        self,
        row: UtteranceRow,
        answer: AnswerRow | None = None,
        webhooks: Sequence[WebhookRow] = (),
    ) -> int | None:
        def write(connection: sqlite3.Connection) -> int | None:
            if _is_answered(connection, answer):
                return None
            values = {**row, **growth(row["index"], row["valence"])}
            written = _execute(connection, _GROW if row["index"] else _CREATE, values).fetchone()
            if written is None:
                return None
            version: int = written["version"]
            _execute(connection, _ADD, {**row, "version": version})
            if row["label"] is not None:
                _execute(connection, _COUNT_LABEL, row)
            if row["margin"] is not None:
                _execute(connection, _COUNT, {**row, "part": part_of(row["dialogue_id"])})
            for webhook in webhooks:
                _execute(connection, _TELL, webhook)
            _keep(connection, answer)
            return version

        return await self._do(write)

    async def erase_portion(
        self,
        tenant: str,
        dialogue_id: str,
        generation: int | None = None,
        number: int | None = None,
        answer: AnswerRow | None = None,
    ) -> Erased | None:
        dialogue = to_find(tenant, dialogue_id, generation, number)

        def erase(connection: sqlite3.Connection) -> Erased | None:
            if _is_answered(connection, answer):
                return None
            row = _execute(connection, _ERASURE.find, dialogue).fetchone()
            if row is None:
                return None
            (erased,) = _erase(connection, [portion(dict(row))])
            if erased.whole:
                _keep(connection, answer)
            return erased

        return await self._do(erase)

    async def erase_before(self, moment: datetime, limit: int) -> list[Erased]:
        values = {"before": moment, "limit": limit}

        def erase(connection: sqlite3.Connection) -> list[Erased] | None:
            rows = _execute(connection, _ERASURE.find_expired, values).fetchall()
            return _erase(connection, portions(map(dict, rows))) or None

        return await self._do(erase) or []

    async def ping(self) -> None:
        await self._do(lambda _: None)  # its transaction takes the lock

    async def close(self) -> None:
        """Wait for the jobs that have arrived, then close the connection."""
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
    """An append, an erasure or a ping, and the future of its outcome."""

    work: _Work[Any]
    outcome: asyncio.Future[Any]


def _execute(
    connection: sqlite3.Connection, statement: CompiledStatement, values: Mapping[str, Any]
) -> sqlite3.Cursor:
    return connection.execute(statement.sql, statement.bind(values))


def _is_answered(connection: sqlite3.Connection, answer: AnswerRow | None) -> bool:
    return answer is not None and _execute(connection, _ANSWERED, answer).fetchone() is not None


def _keep(connection: sqlite3.Connection, answer: AnswerRow | None) -> None:
    if answer is not None:
        _execute(connection, _KEEP, answer)


def _erase(connection: sqlite3.Connection, some: Iterable[Portion]) -> list[Erased]:
    counts = CutCounts()
    erased = [_erase_portion(connection, each, counts) for each in some]
    for values in counts.parameters():
        _execute(connection, _ERASURE.uncount, values)
        _execute(connection, _ERASURE.drop_count, values)
    return erased


def _erase_portion(connection: sqlite3.Connection, each: Portion, cut_counts: CutCounts) -> Erased:
    counts = [
        _execute(connection, statement, each.begins).rowcount
        for statement in (_ERASURE.forget, _ERASURE.cut_changes)
    ]
    last = each.is_last(*counts)
    values = each.ends(last=last)
    noted = _execute(connection, _ERASURE.note, values).fetchall()
    cut = _execute(connection, _ERASURE.cut, values).fetchall()
    cut_counts.add(each.tenant, each.dialogue_id, map(dict, cut))
    _execute(connection, _ERASURE.erase if last else _ERASURE.shorten, values)
    return each.erased([row["demonstration_id"] for row in noted], last=last)


def _write(engine: AsyncEngine, jobs: "SimpleQueue[_Job | None]") -> None:
    """The thread: one group of jobs after the other, until a None."""
    connection: sqlite3.Connection | None = None
    ended = False
    while not ended:
        arrived = _wait_for(jobs)
        ended = None in arrived
        group = [job for job in arrived if job is not None]
        try:
            connection = connection or _connect(engine)
            _commit(connection, group)
        except Exception as error:  # whatever it is, every waiting job must fail with it
            _settle([(job, error) for job in group])
            if connection is not None:
                connection.close()  # which rolls back
                connection = None
        del arrived, group  # no utterance stays in memory until the next job
    if connection is not None:
        connection.close()


def _connect(engine: AsyncEngine) -> sqlite3.Connection:
    connection = connect_to_sqlite(engine)
    connection.row_factory = sqlite3.Row
    return connection


def _wait_for(jobs: "SimpleQueue[_Job | None]") -> list["_Job | None"]:
    """All jobs that have arrived, at least one."""
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
    """The job's outcome; one that fails leaves nothing in the transaction."""
    connection.execute("SAVEPOINT job")
    try:
        outcome: Any = job.work(connection)
    except Exception as error:  # whatever it is, only this job fails with it
        connection.execute("ROLLBACK TO job")
        outcome = error
    connection.execute("RELEASE job")
    return outcome


def _settle(outcomes: Sequence[tuple[_Job, Any]]) -> None:
    """Hand the outcomes to the event loop, in one call."""
    if outcomes:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            outcomes[0][0].outcome.get_loop().call_soon_threadsafe(_set_outcomes, outcomes)


def _set_outcomes(outcomes: Sequence[tuple[_Job, Any]]) -> None:
    for job, outcome in outcomes:
        if job.outcome.done():  # cancelled, or set before
            continue
        if isinstance(outcome, Exception):
            job.outcome.set_exception(outcome)
        else:
            job.outcome.set_result(outcome)
