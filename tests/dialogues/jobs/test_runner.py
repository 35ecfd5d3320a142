"""Jobs that outlive those who do them, on both databases."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.dialogues.jobs import JobRunner
from service.errors import DatabaseUnavailable, EngineUnavailable, JobNotFound, TooManyJobs
from service.sessions.database import Database
from service.sessions.idempotency import Answer, Answers, Key, Once
from service.sessions.jobs import Job, Jobs, JobState
from tests.clock import PATIENT_S

ROOT = Path(__file__).parents[3]


async def stored(jobs: Jobs, portions: int = 3, size: int = 2, tenant: str = "one") -> str:
    job_id = await jobs.create(tenant, "meld", most=5)
    for number in range(portions):
        lines = [{"line": number * size + n + 1} for n in range(size)]
        await jobs.add(job_id, number, json.dumps(lines))
    await jobs.received(job_id, portions * size)
    return job_id


async def lines(jobs: Jobs, job_id: str) -> list[Any]:
    rows, after = [], -1
    while (portion := await jobs.results(job_id, after)) is not None:
        after, text = portion
        rows += [json.loads(line) for line in text.splitlines()]
    return rows


async def echo(tenant: str, label_space: str, dialogue: dict[str, Any]) -> dict[str, Any]:
    return {"line": dialogue["line"], "for": tenant, "in": label_space}


async def worker(url: str, name: str, lease_s: float = 2, most: int = 1000) -> Process:
    given = (url, name, str(lease_s), str(most))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.dialogues.jobs.worker", *given, stdout=PIPE, cwd=ROOT
    )


async def done(jobs: Jobs, job_id: str) -> None:
    async with asyncio.timeout(PATIENT_S):
        while (await jobs.find("one", job_id)).state is not JobState.DONE:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_job_is_done_portion_by_portion(database: Database) -> None:
    """Its state and counts say how far it is; the results keep the order given."""
    jobs = Jobs(database)
    job_id = await stored(jobs)
    runner = JobRunner(jobs, echo)
    states = [(await jobs.find("one", job_id)).state]
    while await runner.work():
        job = await jobs.find("one", job_id)
        states.append(job.state)

    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.RUNNING, JobState.DONE]
    assert (job.dialogues, job.done, job.failed) == (6, 6, 0)
    assert await lines(jobs, job_id) == [
        {"line": n + 1, "for": "one", "in": "meld"} for n in range(6)
    ]
    assert await jobs.counts() == dict.fromkeys(JobState, 0) | {JobState.DONE: 1}


async def test_a_short_job_does_not_wait_for_a_long_one(database: Database) -> None:
    """First portions go first."""
    jobs = Jobs(database)
    await stored(jobs, portions=3)
    short = await stored(jobs, portions=1)
    runner = JobRunner(jobs, echo)

    await runner.work()
    await runner.work()

    assert (await jobs.find("one", short)).state is JobState.DONE


async def test_what_is_not_wholly_received_is_not_begun(database: Database) -> None:
    """Nor is a job without dialogues ever begun: it is done."""
    jobs = Jobs(database)
    job_id = await jobs.create("one", "meld", most=5)
    await jobs.add(job_id, 0, "[]")
    empty = await jobs.create("one", "meld", most=5)
    await jobs.received(empty, 0)

    assert await jobs.claim(10) is None
    assert (await jobs.find("one", job_id)).state is JobState.RECEIVING
    assert (await jobs.find("one", empty)).state is JobState.DONE


async def test_a_job_and_what_its_request_was_answered_are_there_together(
    database: Database,
) -> None:
    """Or neither is: of two processes with one request, one alone has a job that may begin."""
    jobs, answers = Jobs(database), Answers(database)
    key = Key("one", "k", "batch")
    once: Once[Job] = Once(key, lambda job: Answer(202, job.id))
    first, second = [await jobs.create("one", "meld", most=5) for _ in range(2)]

    made = await jobs.received(first, 3, once)

    assert made is not None
    assert made == await jobs.find("one", first)
    assert await jobs.received(second, 3, once) is None
    assert (await jobs.find("one", second)).state is JobState.RECEIVING
    assert await answers.find(key) == Answer(202, first)
    await jobs.delete("one", second)
    with pytest.raises(JobNotFound):
        await jobs.received(second, 3)


async def test_a_portion_whose_lease_has_lapsed_is_anothers(database: Database) -> None:
    """Whoever had it can store nothing of it any more."""
    jobs = Jobs(database)
    job_id = await stored(jobs, portions=1)
    late = await jobs.claim(0.05)
    assert late is not None
    await asyncio.sleep(0.1)

    other = await jobs.claim(10)

    assert other is not None
    assert not await jobs.keep(late, 10)
    assert not await jobs.finish(late, '{"by": "late"}\n', 2, 0)
    assert await jobs.finish(other, '{"by": "other"}\n', 2, 0)
    assert not await jobs.finish(other, '{"by": "other"}\n', 2, 0)
    assert await lines(jobs, job_id) == [{"by": "other"}]


async def test_while_a_part_is_away_the_job_waits(database: Database) -> None:
    """Its portion is free again at once; nothing of it is an error."""
    jobs = Jobs(database)
    job_id = await stored(jobs, portions=1)

    async def away(*_: Any) -> dict[str, Any]:
        raise EngineUnavailable("the label engine has died")

    with pytest.raises(EngineUnavailable):
        await JobRunner(jobs, away).work()

    assert await JobRunner(jobs, echo).work()
    job = await jobs.find("one", job_id)
    assert (job.state, job.failed) == (JobState.DONE, 0)


async def test_an_erased_job_is_given_up(database: Database) -> None:
    """Whoever is at it stops, and nothing of it comes back."""
    jobs = Jobs(database)
    job_id = await stored(jobs, portions=1)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(*_: Any) -> dict[str, Any]:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return {}

    working = asyncio.create_task(JobRunner(jobs, endless, lease_s=0.3).work())
    await asyncio.wait_for(begun.wait(), PATIENT_S)
    await jobs.delete("one", job_id)

    assert await asyncio.wait_for(working, PATIENT_S)
    await asyncio.wait_for(ended.wait(), PATIENT_S)
    assert await lines(jobs, job_id) == []
    with pytest.raises(JobNotFound):
        await jobs.find("one", job_id)


async def test_a_lease_of_a_clock_that_was_set_back_holds_nobody_up(database: Database) -> None:
    """A lease of an hour was never taken, where leases take seconds."""
    jobs = Jobs(database)
    await stored(jobs, portions=1)
    lost = await jobs.claim(3600)
    assert lost is not None
    assert await jobs.claim(3600) is None

    claim = await jobs.claim(30)

    assert claim is not None
    assert claim.number == lost.number
    assert not await jobs.finish(lost, "", 1, 0)


async def test_a_tenant_has_so_many_jobs_and_sees_no_others(database: Database) -> None:
    """Another one's count for nothing."""
    jobs = Jobs(database)
    made = [await stored(jobs, tenant="two") for _ in range(5)]
    await stored(jobs)
    with pytest.raises(TooManyJobs):
        await jobs.create("two", "meld", most=5)
    with pytest.raises(JobNotFound):
        await jobs.find("one", made[0])
    with pytest.raises(JobNotFound):
        await jobs.delete("one", made[0])


async def test_old_jobs_are_erased_once_they_have_ended(database: Database) -> None:
    """Or were never received; those that wait are kept."""
    jobs = Jobs(database)
    ended = await stored(jobs, portions=1)
    await JobRunner(jobs, echo).work()
    waiting = await stored(jobs)
    abandoned = await jobs.create("one", "meld", most=5)
    now = datetime.now(UTC)
    earlier, later = now - timedelta(seconds=60), now + timedelta(seconds=1)

    assert [await jobs.erase_before(later, earlier, 1) for _ in range(2)] == [1, 0]
    assert (await jobs.find("one", abandoned)).state is JobState.RECEIVING
    assert [await jobs.erase_before(earlier, later, 1) for _ in range(2)] == [1, 0]

    assert await lines(jobs, ended) == []
    assert (await jobs.find("one", waiting)).dialogues == 6


async def test_a_process_that_is_killed_costs_no_result_and_doubles_none(
    url: str, database: Database
) -> None:
    """The next one goes on: each dialogue is in the results exactly once."""
    jobs = Jobs(database)
    job_id = await stored(jobs, portions=40, size=5)
    first = await worker(url, "first", most=150)
    assert first.stdout is not None
    async with asyncio.timeout(PATIENT_S):
        for _ in range(37):
            await first.stdout.readline()
    first.kill()
    await first.wait()
    before = await jobs.find("one", job_id)

    second = await worker(url, "second")
    await done(jobs, job_id)
    second.kill()
    await second.communicate()

    rows = await lines(jobs, job_id)
    assert 0 < before.done < 200
    assert [each["line"] for each in sorted(rows, key=lambda each: each["line"])] == [
        *range(1, 201)
    ]
    assert {each["by"] for each in rows} == {"first", "second"}


async def test_processes_share_one_job(url: str, database: Database) -> None:
    """None of them does what another does; both have a part in it."""
    jobs = Jobs(database)
    job_id = await stored(jobs, portions=60, size=5)
    workers = [await worker(url, name, lease_s=30) for name in ("first", "second")]
    await done(jobs, job_id)
    numbers: list[int] = []
    for each in workers:
        each.kill()
        output, _ = await each.communicate()
        numbers += map(int, output.split())

    assert sorted(numbers) == [*range(1, 301)]
    assert [each["line"] for each in await lines(jobs, job_id)] == [*range(1, 301)]


async def test_a_job_that_was_received_cannot_be_abandoned(database: Database) -> None:
    """Its request may be cancelled before it is told so; what was accepted is done."""
    jobs = Jobs(database)
    received, begun = await stored(jobs), await jobs.create("one", "meld", most=5)

    for job_id in (received, begun):
        await jobs.abandon(job_id)

    assert (await jobs.find("one", received)).state is JobState.QUEUED
    with pytest.raises(JobNotFound):
        await jobs.find("one", begun)
    with pytest.raises(JobNotFound):
        await jobs.add(begun, 0, "[]")


async def test_a_long_job_is_erased_in_portions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one takes the job, and keeps what is answered."""
    monkeypatch.setattr("service.sessions.jobs._PORTIONS_ERASED", 2)
    jobs = Jobs(database)
    job_id, other = await stored(jobs, portions=7), await stored(jobs)
    runner = JobRunner(jobs, echo)
    for _ in range(4):
        await runner.work()
    key = Key("one", "k-1", "hash")

    assert await jobs.delete("one", job_id, Once(key, lambda _: Answer(204)))

    with pytest.raises(JobNotFound):
        await jobs.find("one", job_id)
    assert await jobs.results(job_id, -1) is None
    assert await Answers(database).find(key) == Answer(204)
    assert (await jobs.find("one", other)).dialogues == 6


async def test_a_job_that_is_half_erased_is_found_by_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor done; where the erasure was broken off, housekeeping goes on with it."""
    monkeypatch.setattr("service.sessions.jobs._PORTIONS_ERASED", 2)
    jobs, now = Jobs(database), datetime.now(UTC)
    job_id, other = await stored(jobs, 5), await stored(jobs, 1)
    portions, transaction = 0, database.transaction

    async def breaking_off(work: Any) -> Any:
        nonlocal portions
        portions += 1
        if portions > 1:
            raise DatabaseUnavailable("the database does not answer")
        return await transaction(work)

    with monkeypatch.context() as broken:
        broken.setattr(database, "transaction", breaking_off)
        with pytest.raises(DatabaseUnavailable):
            await jobs.delete("one", job_id)

    with pytest.raises(JobNotFound):
        await jobs.find("one", job_id)
    with pytest.raises(JobNotFound):
        await jobs.received(job_id, 10)
    work = await jobs.claim(30)
    assert work is not None
    assert work.job_id == other
    assert await jobs.claim(30) is None
    day = timedelta(days=1)
    assert await jobs.erase_before(now - day, now - day, 5) == 1
    assert await jobs.counts() == dict.fromkeys(JobState, 0) | {JobState.RUNNING: 1}
