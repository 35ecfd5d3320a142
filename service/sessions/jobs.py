"""Batches that are scored in the background: durable, shared by all processes on the database.

A job's dialogues are stored in portions. The process that claims a portion renews its lease; once
that has lapsed, another process may claim the portion. Its results are stored in the transaction
that removes the portion, and only by the process that holds the claim, so they are stored once,
whichever process died meanwhile.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import Select, Table, and_, case, delete, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.admission.deadline import to_the_end
from service.errors import JobNotFound, TooManyJobs
from service.sessions.database import Database
from service.sessions.idempotency import KeyTaken, Once, keep
from service.sessions.schema import job_results, job_work, jobs


class JobState(StrEnum):
    """The progress of a job, by the name that metrics and responses use."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as of one moment.

    Attributes:
        dialogues: the number of them; None: not all of them have been received.
        done: the number that have a result.
        failed: the number of these results that are errors.
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
    """A portion of a job that a process has claimed.

    Attributes:
        dialogues: as they were given to `add`.
        owner: a random text, drawn again each time the portion is claimed.
    """

    job_id: str
    number: int
    tenant: str
    label_space: str
    dialogues: str
    owner: str


# Times the usual lease; clocks of several machines may differ.
_NEVER_LEASED = 10

# Portions of a job that are erased in one transaction: a megabyte or so of text.
_PORTIONS_ERASED = 10

# When a job counts as created whose erasure has begun: nobody finds or scores it, and if this
# process ends, housekeeping goes on, as with one that was never received.
_ERASING = datetime(1970, 1, 1, tzinfo=UTC)
_IS_WHOLE = jobs.c.created_at > _ERASING

_JOB = tuple(jobs.c[name] for name in Job.__slots__)


class Jobs:
    """The jobs in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, tenant: str, label_space: str, most: int) -> str:
        """A new job without dialogues; its id.

        Raises:
            TooManyJobs: the tenant has `most` already.
        """
        job_id = uuid4().hex

        async def create(connection: AsyncConnection) -> None:
            if connection.dialect.name == "postgresql":  # SQLite's transaction is the lock
                await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(tenant))))
            count = select(func.count()).select_from(jobs).where(jobs.c.tenant == tenant)
            if (await connection.execute(count)).scalar_one() >= most:
                raise TooManyJobs(f"too many jobs (limit {most}): delete some")
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

        await self._database.transaction(create)
        return job_id

    async def add(self, job_id: str, number: int, dialogues: str) -> None:
        """Give a job its next portion; none is claimed until all have been received.

        Raises:
            JobNotFound: it has been erased meanwhile.
        """
        row = insert(job_work).values(job_id=job_id, number=number, dialogues=dialogues)
        try:
            await self._database.change(row)
        except IntegrityError:
            if await self._database.fetch(select(jobs.c.id).where(jobs.c.id == job_id)):
                raise
            raise JobNotFound(f"no job {job_id!r}") from None

    async def received(
        self, job_id: str, dialogues: int, once: Once[Job] | None = None
    ) -> Job | None:
        """Let a job begin that has all of its dialogues.

        Returns the job; None: the request's key has an answer already, and the job may not begin.

        Args:
            dialogues: how many it has.
            once: the request's key and its answer, which is kept.

        Raises:
            JobNotFound: it has been erased meanwhile.
        """
        values: dict[str, Any] = {"dialogues": dialogues}
        if not dialogues:
            values["started_at"] = values["finished_at"] = datetime.now(UTC)
        statement = update(jobs).where(jobs.c.id == job_id, _IS_WHOLE).values(**values)

        async def receive(connection: AsyncConnection) -> Job:
            row = (await connection.execute(statement.returning(*_JOB))).one_or_none()
            if row is None:
                raise JobNotFound(f"no job {job_id!r}")
            job = Job(**row._asdict())
            await keep(connection, once, job)
            return job

        try:
            return await self._database.transaction(receive)
        except KeyTaken:
            return None

    async def abandon(self, job_id: str) -> None:
        """Erase a job unless it has been received."""
        await self._erase(job_id, jobs.c.dialogues.is_(None))

    async def find(self, tenant: str, job_id: str) -> Job:
        """A job.

        Raises:
            JobNotFound: the tenant has none with this id.
        """
        is_the_job = and_(jobs.c.tenant == tenant, jobs.c.id == job_id)
        rows = await self._database.fetch(select(*_JOB).where(is_the_job, _IS_WHOLE))
        if not rows:
            raise JobNotFound(f"no job {job_id!r}")
        return Job(**rows[0]._asdict())

    async def results(self, job_id: str, after: int) -> tuple[int, str] | None:
        """The results of the next portion that has any, with its number; None: there is none."""
        statement = (
            select(job_results.c.number, job_results.c.results)
            .where(job_results.c.job_id == job_id, job_results.c.number > after)
            .order_by(job_results.c.number)
            .limit(1)
        )
        rows = await self._database.fetch(statement)
        return (rows[0].number, rows[0].results) if rows else None

    async def delete(self, tenant: str, job_id: str, once: Once[None] | None = None) -> bool:
        """Erase a job with its dialogues and results; a process that scores it stops.

        A long one goes in portions, the job itself last, so that other writers get in between.

        Returns whether it is erased; False: the request's key has an answer already.

        Args:
            once: the request's key and its answer, which is kept.

        Raises:
            JobNotFound: the tenant has none with this id.
        """
        try:
            if not await self._erase(job_id, jobs.c.tenant == tenant, once):
                raise JobNotFound(f"no job {job_id!r}")
        except KeyTaken:
            return False
        return True

    async def erase_before(self, ended: datetime, begun: datetime, limit: int) -> int:
        """Erase at most `limit` of the jobs that ended before a moment or were never received.

        Args:
            begun: the moment before which those not yet received must have been begun.
        """
        old = or_(
            jobs.c.finished_at < ended,
            and_(jobs.c.dialogues.is_(None), jobs.c.created_at < begun),
        )
        rows = await self._database.fetch(select(jobs.c.id).where(old).limit(limit))
        for row in rows:
            await self._erase(row.id, old)
        return len(rows)

    async def counts(self) -> dict[JobState, int]:
        """The number of jobs in each state, over all tenants."""
        state = case(
            (jobs.c.dialogues.is_(None), JobState.RECEIVING),
            (jobs.c.finished_at.is_not(None), JobState.DONE),
            (jobs.c.started_at.is_(None), JobState.QUEUED),
            else_=JobState.RUNNING,
        ).label("state")
        inner = select(state).subquery()
        counts = select(inner.c.state, func.count().label("jobs")).group_by(inner.c.state)
        rows = await self._database.fetch(counts)
        return dict.fromkeys(JobState, 0) | {JobState(row.state): row.jobs for row in rows}

    async def claim(self, lease_s: float) -> Work | None:
        """Claim a free portion for `lease_s` seconds; None: there is none.

        The first portions of all jobs come before the second ones, so that a short job does not
        wait for a long one.
        """
        if not await self._database.fetch(_free(lease_s)):  # which keeps no writer waiting
            return None

        async def claim(connection: AsyncConnection) -> Work | None:
            free = _free(lease_s).with_for_update(skip_locked=True, of=job_work)
            row = (await connection.execute(free)).one_or_none()
            if row is None:
                return None
            work = Work(**row._asdict(), owner=secrets.token_hex(8))
            await connection.execute(
                update(job_work)
                .where(job_work.c.job_id == work.job_id, job_work.c.number == work.number)
                .values(owner=work.owner, leased_until=_in(lease_s))
            )
            return work

        work = await self._database.transaction(claim)
        if work is not None:
            await self._database.change(
                update(jobs)
                .where(jobs.c.id == work.job_id, jobs.c.started_at.is_(None))
                .values(started_at=datetime.now(UTC))
            )
        return work

    async def keep(self, work: Work, lease_s: float) -> bool:
        """Renew a lease for `lease_s` seconds; False: the portion was claimed anew, or erased."""
        statement = update(job_work).where(_is(work)).values(leased_until=_in(lease_s))
        return await self._database.change(statement) == 1

    async def release(self, work: Work) -> None:
        """Leave a portion to others."""
        await self.keep(work, 0)

    async def finish(self, work: Work, results: str, done: int, failed: int) -> bool:
        """Store a portion's results; False: the portion is another's by now, or erased."""
        now = datetime.now(UTC)

        async def finish(connection: AsyncConnection) -> bool:
            # Before the portion, as an erasure does, so that neither waits for the other.
            held = select(jobs.c.id).where(jobs.c.id == work.job_id).with_for_update()
            await connection.execute(held)
            taken = await connection.execute(delete(job_work).where(_is(work)))
            if taken.rowcount != 1:
                return False
            await connection.execute(
                insert(job_results).values(job_id=work.job_id, number=work.number, results=results)
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

        return await self._database.transaction(finish)

    async def _erase(self, job_id: str, which: Any, once: Once[None] | None = None) -> bool:
        """Erase a job that is as `which` says, in portions; False: it is not, or there is none."""

        async def portion(connection: AsyncConnection) -> bool | None:
            held = select(jobs.c.id).where(jobs.c.id == job_id, which).with_for_update()
            if (await connection.execute(held)).one_or_none() is None:
                return False
            for table in (job_work, job_results):
                if (await connection.execute(_some_of(table, job_id))).rowcount:
                    begun = update(jobs).where(jobs.c.id == job_id)
                    await connection.execute(begun.values(dialogues=None, created_at=_ERASING))
                    return None
            await connection.execute(delete(jobs).where(jobs.c.id == job_id))
            await keep(connection, once, None)
            return True

        async def erase() -> bool:
            erased = await self._database.transaction(portion)
            if erased is False:
                return False
            async with self._database.erasing():
                while erased is None:
                    erased = await self._database.transaction(portion)
            return erased

        with to_the_end():
            return await self._database.whole(erase())


def _some_of(table: Table, job_id: str) -> Any:
    some = select(table.c.job_id, table.c.number).where(table.c.job_id == job_id)
    identity = tuple_(table.c.job_id, table.c.number)
    return delete(table).where(identity.in_(some.limit(_PORTIONS_ERASED)))


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _is(work: Work) -> Any:
    return and_(
        job_work.c.job_id == work.job_id,
        job_work.c.number == work.number,
        job_work.c.owner == work.owner,
    )


def _free(lease_s: float) -> Select[Any]:
    """The next portion whose lease has lapsed, or that has none."""
    now = datetime.now(UTC)
    # No lease is this long: the clock has been set back since.
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
