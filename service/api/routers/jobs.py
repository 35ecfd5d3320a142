"""Routes of jobs: batches that are scored in the background."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Response

from service.access.keys import Scope
from service.admission.patience import renew
from service.api.batches.jobs import job_document
from service.api.bodies.json_bodies import json_response
from service.api.bodies.ndjson import Emit, LineStream
from service.api.headers.accept import Accept, preferred
from service.api.headers.content_type import LINES, NDJSON
from service.api.idempotency import RepeatableDep
from service.api.links import with_prefix
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import ADMISSION_PROBLEMS, IDEMPOTENCY_PROBLEMS, INVALID_REQUEST
from service.api.response_headers import REPLAYED, UNBUFFERED, carrying
from service.api.schemas.batch import JobOut
from service.api.schemas.names import Identifier
from service.api.schemas.streams import RESULT_LINE
from service.api.services import ServicesDep, TenantDep
from service.errors import DatabaseUnavailable, JobNotFound

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobId = Annotated[Identifier, Path(description="As `POST /batch` answered.", examples=["5f3a"])]

_LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE

_PROBLEMS = (INVALID_REQUEST, *ADMISSION_PROBLEMS, JobNotFound, DatabaseUnavailable)


@router.get("/{job_id}", response_model=JobOut, responses=documented(*_PROBLEMS))
@policy(Scope.READ)
async def read_job(job_id: JobId, tenant: TenantDep, services: ServicesDep) -> Response:
    """How far a job is."""
    return json_response(job_document(await services.jobs.find(tenant, job_id)))


@router.get(
    "/{job_id}/results",
    response_class=LineStream,
    status_code=200,
    responses={
        200: {
            "description": "One result a dialogue, in the order given",
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
    """The results there are, as lines of JSON: all of them once the job is done.

    They are as those of a batch of lines. Before the job is done, some may be left out in between.
    """
    await services.jobs.find(tenant, job_id)

    async def produce(emit: Emit) -> None:
        after = -1
        while (found := await services.jobs.results(job_id, after)) is not None:
            after, lines = found
            # Not splitlines: what is wrong with a line may be told in words of its own.
            results = [with_prefix(orjson.loads(line)) for line in lines.split("\n") if line]
            shown = await services.with_texts(results, tenant)
            await emit(b"".join(orjson.dumps(each, option=_LINE) for each in shown))
            renew()

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
    """Erase a job with its dialogues and results; what is under way of it is given up."""

    def answered(_: None) -> Response:
        return Response(status_code=204)

    async def erase() -> Response:
        once = request.once(answered)
        if not await services.jobs.delete(tenant, job_id, once):
            await services.sessions.raise_if_answered(once)
        return answered(None)

    return await request.answer(erase, keeps=True)
