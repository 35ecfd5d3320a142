"""Routes of jobs: batches that are scored in the background."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Response

from service.access.keys import Scope
from service.api.batches.jobs import job_document
from service.api.bodies.json_bodies import json_response
from service.api.bodies.ndjson import Emit, LineStream, emit_in_pieces
from service.api.idempotency import RepeatableDep, no_content
from service.api.links import with_prefix
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import ADMISSION_PROBLEMS, IDEMPOTENCY_PROBLEMS, INVALID_REQUEST
from service.api.request_headers import LINES, NDJSON, Accept, preferred
from service.api.response_headers import REPLAYED, UNBUFFERED, carrying
from service.api.schemas.batch import JobOut
from service.api.schemas.names import Identifier
from service.api.schemas.streams import RESULT_LINE
from service.api.services import ServicesDep, TenantDep
from service.errors import DatabaseUnavailable, JobNotFound
from service.sessions.idempotency import Once

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobId = Annotated[
    Identifier, Path(description="The `id` in the response of `POST /batch`.", examples=["5f3a"])
]

_LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE

_PROBLEMS = (INVALID_REQUEST, *ADMISSION_PROBLEMS, JobNotFound, DatabaseUnavailable)


@router.get("/{job_id}", response_model=JobOut, responses=documented(*_PROBLEMS))
@policy(Scope.READ)
async def read_job(job_id: JobId, tenant: TenantDep, services: ServicesDep) -> Response:
    """Read a job's state and progress."""
    return json_response(job_document(await services.jobs.find(tenant, job_id)))


@router.get(
    "/{job_id}/results",
    response_class=LineStream,
    status_code=200,
    responses={
        200: {
            "description": "One result per dialogue, in input order",
            "content": {
                NDJSON: {
                    "itemSchema": RESULT_LINE,
                }
            },
            **carrying(*UNBUFFERED),
        },
        **documented(*_PROBLEMS),
    },
)
@policy(Scope.READ)
async def read_results(
    job_id: JobId, tenant: TenantDep, services: ServicesDep, accept: Accept = None
) -> Response:
    """Read the available results as NDJSON: all of them once the job is done.

    They are like those of an NDJSON batch. Before the job is done, there may be gaps.
    """
    await services.jobs.find(tenant, job_id)

    async def produce(emit: Emit) -> None:
        after = -1
        while (portion := await services.jobs.results(job_id, after)) is not None:
            after, lines = portion
            # Not splitlines: an error's detail may contain other line separators.
            stored = [with_prefix(orjson.loads(line)) for line in lines.split("\n") if line]
            results = await services.with_texts(stored, tenant)
            content = b"".join(orjson.dumps(result, option=_LINE) for result in results)
            await emit_in_pieces(emit, content)

    return LineStream(produce, preferred(accept, LINES))


@router.delete(
    "/{job_id}",
    status_code=204,
    responses={204: carrying(REPLAYED), **documented(*_PROBLEMS, *IDEMPOTENCY_PROBLEMS)},
)
@policy(Scope.WRITE)
async def delete_job(
    job_id: JobId, tenant: TenantDep, services: ServicesDep, request: RepeatableDep
) -> Response:
    """Erase a job with its dialogues and results; scoring in progress is abandoned."""

    async def erase(once: Once[None] | None) -> Response:
        if not await services.jobs.delete(tenant, job_id, once):
            await services.sessions.answers.raise_if_answered(once)
        return no_content()

    return await request.write(erase, no_content)
