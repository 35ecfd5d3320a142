"""Storing a batch as a job, and the job's document."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import orjson

from service.access.callers import Caller
from service.api.batches.lines import Given
from service.api.limits import check_broken, check_job
from service.api.links import located
from service.api.services import Services
from service.errors import DeadlinePassed, JobNotFound, ServiceError
from service.sessions.idempotency import Once
from service.sessions.jobs import Job

# The most that one process claims at once; the results are stored together.
_UTTERANCES = 256
_DIALOGUES = 100


def job_document(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {
        "id": job.id,
        "state": job.state,
        "label_space": job.label_space,
        "dialogues": job.dialogues,
        "done": job.done,
        "failed": job.failed,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "results": located(f"/jobs/{job.id}/results"),
    }


async def store_job(
    lines: AsyncIterator[Given],
    label_space: str,
    caller: Caller,
    services: Services,
    once: Once[Job] | None = None,
) -> Job:
    """Store dialogues as a job, which may start once all of them are stored.

    Args:
        once: the request's idempotency key and its response, which is stored with the job.

    Raises:
        QuotaExceeded: the caller has too few utterances left; nothing is stored.
        RequestValidationError: there are more than a job or the quota ever allows at once, or too
            many lines are broken; nothing is stored.
        AlreadyAnswered: the key already has a response; nothing is stored.
        TooManyJobs: the tenant has reached its limit of stored jobs.
        DatabaseUnavailable: nothing is stored.
        What `lines` raises; nothing is stored.
    """
    jobs, tenant = services.jobs, caller.tenant
    job_id = await jobs.create(tenant, label_space, services.limits.jobs)
    try:
        number = count = size = utterances = 0
        portion: list[dict[str, Any]] = []
        broken: list[int] = []
        async for line in lines:
            utterances += line.size
            check_job(count + 1, utterances, services.limits, caller.batch_utterances)
            if line.broken:
                broken.append(line.number)
                check_broken(broken)
            if portion and (size + line.size > _UTTERANCES or len(portion) == _DIALOGUES):
                await jobs.add(job_id, number, orjson.dumps(portion).decode())
                number, size, portion = number + 1, 0, []
            portion.append(_stored(line))
            count, size = count + 1, size + line.size
        if portion:
            await jobs.add(job_id, number, orjson.dumps(portion).decode())
        caller.spend_utterances(utterances)
        while (job := await jobs.received(job_id, count, once)) is None:
            await services.sessions.answers.raise_if_answered(once)
    except JobNotFound:
        raise DeadlinePassed("the job was erased while it was being received") from None
    except BaseException:
        # The job may be complete all the same: a cancelled request does not see that.
        with suppress(ServiceError):
            await jobs.abandon(job_id)
        raise
    return job


def _stored(line: Given) -> dict[str, Any]:
    if isinstance(line.content, dict):
        return {"line": line.number, "error": line.content}
    return {"line": line.number, **line.content.model_dump()}
