"""Batches that are scored while nobody waits: durable, shared by all processes on the database.

A job's dialogues lie in portions. Whoever has claimed a portion keeps its lease up; once that has
lapsed, another process may claim it. The results of a portion are stored in the transaction that
takes it away from what is to be done, and only by who has it claimed: so they are there once,
whoever died meanwhile.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Select, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.errors import JobNotFound, TooManyJobs
from service.sessions.answers import Once, keep_answer
from service.sessions.database import answering, transactional
from service.sessions.schema import job_results, job_work, jobs


class JobState(StrEnum):
    """How far a job is; metrics and answers name it so."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as of one moment.

    Attributes:
        dialogues: how many it has; None: not all of them have been received.
        done: how many have a result.
        failed: how many of these results are errors.
    """

    id: str
    label_space: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    dialogues: int | None
    done: int
    failed: int

    @property
    def state(self) -> JobState:
        if self.dialogues is None:
            return JobState.RECEIVING
        if self.finished_at is not None:
            return JobState.DONE
        return JobState.QUEUED if self.started_at is None else JobState.RUNNING


@dataclass(frozen=True, slots=True)
class Work:
    """A portion of a job that somebody has claimed.

    Attributes:
        dialogues: as they were given to `add`.
        owner: another one whenever it is claimed.
    """

    job_id: str
    number: int
    tenant: str
    label_space: str
    dialogues: str
    owner: str


# Times the usual lease; clocks of several machines may differ.
_NEVER_LEASED = 10

_JOB = tuple(jobs.c[name] for name in Job.__slots__)


class Jobs:
    """The jobs in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, tenant: str, label_space: str, most: int) -> str:
        """A new job without dialogues; its id.

        Raises:
            TooManyJobs: the tenant has `most` already.
        """
        with answering():
            async with transactional(self._engine).begin() as connection:
                if connection.dialect.name == "postgresql":  # SQLite's transaction is the lock
                    await connection.execute(
                        select(func.pg_advisory_xact_lock(func.hashtext(tenant)))
                    )
                asked = select(func.count()).select_from(jobs).where(jobs.c.tenant == tenant)
                if (await connection.execute(asked)).scalar_one() >= most:
                    raise TooManyJobs(f"you have {most} jobs, as many as are kept: delete some")
                job_id = uuid4().hex
                await connection.execute(
                    insert(jobs).values(
                        id=job_id,
                        tenant=tenant,
                        label_space=label_space,
                        created_at=datetime.now(UTC),
                        done=0,
                        failed=0,
                    )
                )
        return job_id

    async def add(self, job_id: str, number: int, dialogues: str) -> None:
        """Give a job its next portion; none is claimed until all have been received."""
        row = insert(job_work).values(job_id=job_id, number=number, dialogues=dialogues)
        with answering():
            async with self._engine.connect() as connection:
                await connection.execute(row)

    async def received(
        self, job_id: str, dialogues: int, once: Once[Job] | None = None
    ) -> Job | None:
        """A job has all of its dialogues, so many, and may begin.

        Returns the job; None: the request's key has an answer already, and the job may not begin.

        Args:
            once: the request's key and what it will be answered, which is kept.

        Raises:
            JobNotFound: it has been erased meanwhile.
        """
        values: dict[str, Any] = {"dialogues": dialogues}
        if not dialogues:
            values["started_at"] = values["finished_at"] = datetime.now(UTC)
        changed = update(jobs).where(jobs.c.id == job_id).values(**values).returning(*_JOB)
        with answering():
            async with (
                transactional(self._engine).connect() as connection,
                connection.begin() as transaction,
            ):
                row = (await connection.execute(changed)).one_or_none()
                if row is None:
                    raise JobNotFound(f"no job {job_id!r}")
                job = Job(*row)
                if once is not None and not await keep_answer(
                    connection, once.key, once.answer(job)
                ):
                    await transaction.rollback()
                    return None
        return job

    async def find(self, tenant: str, job_id: str) -> Job:
        """A job.

        Raises:
            JobNotFound: the tenant has none with this id.
        """
        asked = select(*_JOB).where(jobs.c.tenant == tenant, jobs.c.id == job_id)
        with answering():
            async with self._engine.connect() as connection:
                row = (await connection.execute(asked)).one_or_none()
        if row is None:
            raise JobNotFound(f"no job {job_id!r}")
        return Job(*row)

    async def results(self, job_id: str, after: int) -> tuple[int, str] | None:
        """The results of the next portion that has any, with its number; None: there is none."""
        asked = (
            select(job_results.c.number, job_results.c.results)
            .where(job_results.c.job_id == job_id, job_results.c.number > after)
            .order_by(job_results.c.number)
            .limit(1)
        )
        with answering():
            async with self._engine.connect() as connection:
                row = (await connection.execute(asked)).one_or_none()
        return None if row is None else (row[0], row[1])

    async def delete(self, tenant: str, job_id: str) -> None:
        """Erase a job with its dialogues and results; whoever is at it stops.

        Raises:
            JobNotFound: the tenant has none with this id.
        """
        if not await self._erase(and_(jobs.c.tenant == tenant, jobs.c.id == job_id)):
            raise JobNotFound(f"no job {job_id!r}")

    async def erase_before(self, ended: datetime, begun: datetime, limit: int) -> int:
        """Erase at most `limit` of the jobs that ended before a moment or were never received.

        Args:
            begun: the moment before which those not yet received must have been begun.
        """
        old = or_(
            jobs.c.finished_at < ended,
            and_(jobs.c.dialogues.is_(None), jobs.c.created_at < begun),
        )
        return await self._erase(jobs.c.id.in_(select(jobs.c.id).where(old).limit(limit)))

    async def counts(self) -> dict[JobState, int]:
        """How many jobs there are of each state, over all tenants."""
        state = case(
            (jobs.c.dialogues.is_(None), JobState.RECEIVING),
            (jobs.c.finished_at.is_not(None), JobState.DONE),
            (jobs.c.started_at.is_(None), JobState.QUEUED),
            else_=JobState.RUNNING,
        ).label("state")
        with answering():
            async with self._engine.connect() as connection:
                inner = select(state).subquery()
                asked = select(inner.c.state, func.count()).group_by(inner.c.state)
                rows = (await connection.execute(asked)).all()
        return dict.fromkeys(JobState, 0) | {JobState(name): count for name, count in rows}

    async def claim(self, lease_s: float) -> Work | None:
        """A portion that nobody is at, for so many seconds; None: there is none.

        The first portions of all jobs come before the second ones, so that a short job does not
        wait for a long one.
        """
        with answering():
            async with self._engine.connect() as connection:  # which keeps no writer waiting
                if (await connection.execute(_free(lease_s))).one_or_none() is None:
                    return None
            async with transactional(self._engine).begin() as connection:
                asked = _free(lease_s).with_for_update(skip_locked=True, of=job_work)
                row = (await connection.execute(asked)).one_or_none()
                if row is None:
                    return None
                job_id, number, tenant, label_space, dialogues = row
                owner = secrets.token_hex(8)
                work = Work(job_id, number, tenant, label_space, dialogues, owner)
                await connection.execute(
                    update(job_work)
                    .where(job_work.c.job_id == work.job_id, job_work.c.number == work.number)
                    .values(owner=work.owner, leased_until=_in(lease_s))
                )
            async with self._engine.connect() as connection:
                await connection.execute(
                    update(jobs)
                    .where(jobs.c.id == work.job_id, jobs.c.started_at.is_(None))
                    .values(started_at=datetime.now(UTC))
                )
        return work

    async def keep(self, work: Work, lease_s: float) -> bool:
        """Have a portion for so many seconds more; False: it is another's by now, or erased."""
        kept = update(job_work).where(_is(work)).values(leased_until=_in(lease_s))
        with answering():
            async with self._engine.connect() as connection:
                return (await connection.execute(kept)).rowcount == 1

    async def release(self, work: Work) -> None:
        """Leave a portion to others."""
        await self.keep(work, 0)

    async def finish(self, work: Work, results: str, done: int, failed: int) -> bool:
        """Store the results of a portion; False: it is another's by now, or erased."""
        now = datetime.now(UTC)
        with answering():
            async with transactional(self._engine).begin() as connection:
                # Before the portion, as an erasure does, so that neither waits for the other.
                held = select(jobs.c.id).where(jobs.c.id == work.job_id).with_for_update()
                await connection.execute(held)
                taken = await connection.execute(delete(job_work).where(_is(work)))
                if taken.rowcount != 1:
                    return False
                await connection.execute(
                    insert(job_results).values(
                        job_id=work.job_id, number=work.number, results=results
                    )
                )
                await connection.execute(
                    update(jobs)
                    .where(jobs.c.id == work.job_id)
                    .values(
                        done=jobs.c.done + done,
                        failed=jobs.c.failed + failed,
                        finished_at=case((jobs.c.done + done >= jobs.c.dialogues, now)),
                    )
                )
        return True

    async def _erase(self, which: Any) -> int:
        with answering():
            async with self._engine.connect() as connection:
                count = (await connection.execute(delete(jobs).where(which))).rowcount
                if count:
                    await _empty_log(connection)
                return count


async def _empty_log(connection: AsyncConnection) -> None:
    """SQLite's write-ahead log would keep the text until it is next overwritten."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _is(work: Work) -> Any:
    return and_(
        job_work.c.job_id == work.job_id,
        job_work.c.number == work.number,
        job_work.c.owner == work.owner,
    )


def _free(lease_s: float) -> Select[Any]:
    """The next portion that nobody is at."""
    now = datetime.now(UTC)
    # Nobody takes a lease so long: the clock has been set back since.
    never = now + timedelta(seconds=_NEVER_LEASED * lease_s)
    until = job_work.c.leased_until
    return (
        select(
            job_work.c.job_id,
            job_work.c.number,
            jobs.c.tenant,
            jobs.c.label_space,
            job_work.c.dialogues,
        )
        .join_from(job_work, jobs)
        .where(
            jobs.c.dialogues.is_not(None),
            or_(until.is_(None), until <= now, until > never),
        )
        .order_by(job_work.c.number, jobs.c.created_at)
        .limit(1)
    )
