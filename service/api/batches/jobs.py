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
from service.sessions.answers import Once
from service.sessions.jobs import Job

# What one process takes at once; its results are stored together.
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
    given: AsyncIterator[Given],
    label_space: str,
    caller: Caller,
    services: Services,
    once: Once[Job] | None = None,
) -> Job:
    """Store dialogues as a job, which may begin once all of them are stored.

    Args:
        once: the request's key and what it will be answered, which is kept with the job.

    Raises:
        QuotaExceeded: the caller has not as many utterances left; nothing is stored.
        RequestValidationError: there are more than a job takes or the quota ever allows at once,
            or hardly a line that is not broken; nothing is stored.
        AlreadyAnswered: the key has an answer; nothing is stored.
        TooManyJobs: the tenant has as many as are kept.
        DatabaseUnavailable: nothing is stored.
        What `given` raises; nothing is stored.
    """
    jobs, tenant = services.jobs, caller.tenant
    job_id = await jobs.create(tenant, label_space, services.limits.jobs)
    try:
        number = count = size = utterances = 0
        portion: list[dict[str, Any]] = []
        broken: list[int] = []
        async for each in given:
            utterances += each.size
            check_job(count + 1, utterances, services.limits, caller.batch_utterances)
            if each.broken:
                broken.append(each.number)
                check_broken(broken)
            if portion and (size + each.size > _UTTERANCES or len(portion) == _DIALOGUES):
                await jobs.add(job_id, number, orjson.dumps(portion).decode())
                number, size, portion = number + 1, 0, []
            portion.append(_stored(each))
            count, size = count + 1, size + each.size
        if portion:
            await jobs.add(job_id, number, orjson.dumps(portion).decode())
        caller.spend_utterances(utterances)
        while (job := await jobs.received(job_id, count, once)) is None:
            await services.sessions.raise_if_answered(once)
    except JobNotFound:
        raise DeadlinePassed("the job was erased while it was being received") from None
    except BaseException:
        # It may be received all the same: a request that is cancelled does not see it.
        with suppress(ServiceError):
            await jobs.abandon(job_id)
        raise
    return job


def _stored(each: Given) -> dict[str, Any]:
    if isinstance(each.what, dict):
        return {"line": each.number, "error": each.what}
    return {"line": each.number, **each.what.model_dump()}
