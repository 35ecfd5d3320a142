"""Routes of batches: whole dialogues at once; nothing is stored."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from service.access.callers import Caller
from service.access.keys import Scope
from service.api.batches.jobs import job_document, store_job
from service.api.batches.lines import Given, answer_in_order, given_lines
from service.api.batches.results import score
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.bodies.ndjson import Emit, LineStream, NdjsonRoute
from service.api.idempotency import RepeatableDep, UntoldKey, refuse_key
from service.api.limits import check_batch
from service.api.links import leading_to, located, with_prefix
from service.api.policies import policy
from service.api.problems.answers import documented, invalid, problem_of
from service.api.problems.kinds import (
    ADMISSION_PROBLEMS,
    BODY_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    NOT_ACCEPTABLE,
)
from service.api.request_headers import (
    JSON,
    LINES,
    NDJSON,
    Accept,
    accepted,
    check_charset,
    preferred,
    prefers_async,
)
from service.api.response_headers import APPLIED, LOCATION, REPLAYED, UNBUFFERED, carrying
from service.api.schemas.batch import BatchIn, BatchOut, JobOut, ScoredDialogue
from service.api.schemas.names import LabelSpaceName
from service.api.schemas.streams import DIALOGUE_LINE, RESULT_LINE
from service.api.services import CallerDep, Services, ServicesDep, TenantDep
from service.concurrency import first_failure
from service.conversation.labels import UNIFIED
from service.dialogue_format import DialogueIn
from service.errors import (
    DatabaseUnavailable,
    DemonstrationsUnavailable,
    EngineUnavailable,
    QuotaExceeded,
    TooManyJobs,
    UnsupportedLabelSpace,
)
from service.observability.metrics import Metrics
from service.priority import Priority
from service.recognition.answering import AnswerSpace
from service.sessions.idempotency import Once
from service.sessions.jobs import Job
from service.tracing import listening

router = APIRouter(tags=["batch"], route_class=JsonRoute)

_LINE_IN = '{"id":"a","utterances":[{"speaker":"Ann","text":"We won!"}]}\n'
_LINE_OUT = (
    '{"line":1,"id":"a","utterances":[{"index":0,"emotion":{...},...}]}\n'
    '{"line":2,"error":{"type":"/problems/malformed-json","status":400,...}}\n'
)

Prefer = Annotated[
    list[str] | None,
    Header(
        description="`respond-async`: respond with 202 and score the batch later, as a job.",
        examples=[["respond-async"]],
    ),
]

WithSummary = Annotated[
    bool,
    Query(
        description="Each result has a `summary`, as that of a stored dialogue; not with "
        "`Prefer: respond-async`."
    ),
]


@policy(Scope.READ, Priority.BATCH, takes_lines=True)
async def score_lines(
    request: Request,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    accept: Accept = None,
    prefer: Prefer = None,
    idempotency_key: UntoldKey = None,
    label_space: Annotated[LabelSpaceName, Query()] = UNIFIED,
    summary: WithSummary = False,
) -> Response:
    refuse_key(idempotency_key, f"with {NDJSON}")
    check_charset(request.headers)
    space = await services.answerer.label_space(label_space, tenant)
    lines = given_lines(request, services.limits, caller.batch_utterances)
    if prefers_async(prefer or ()):
        _refuse_summary(summary)
        return _accepted(await _stored(lines, space, caller, services))
    media_type = accepted(accept, LINES)

    async def spend_and_score(dialogue: DialogueIn) -> ScoredDialogue:
        caller.spend_utterances(max(1, len(dialogue.utterances)))
        return await score(dialogue, space, tenant, services, summary=summary)

    return _streamed(_counted(lines, caller), spend_and_score, services.metrics, media_type)


router.add_api_route(
    "/batch",
    score_lines,
    methods=["POST"],
    include_in_schema=False,
    route_class_override=NdjsonRoute,
)


@router.post(
    "/batch",
    response_model=BatchOut,
    responses={
        200: {
            "description": "One result per dialogue, in input order",
            "content": {
                NDJSON: {
                    "itemSchema": RESULT_LINE,
                    "example": _LINE_OUT,
                }
            },
            **carrying(REPLAYED, *UNBUFFERED),
        },
        202: {
            "description": "The job, which is also at `Location`",
            "model": JobOut,
            **carrying(LOCATION, REPLAYED),
            **leading_to("read_job", "read_results", "delete_job", job_id="id"),
        },
        **documented(
            *BODY_PROBLEMS,
            NOT_ACCEPTABLE,
            *ADMISSION_PROBLEMS,
            UnsupportedLabelSpace,
            *IDEMPOTENCY_PROBLEMS,
            TooManyJobs,
            EngineUnavailable,
            DemonstrationsUnavailable,
            DatabaseUnavailable,
        ),
    },
    openapi_extra={
        "requestBody": {
            "content": {
                NDJSON: {
                    "itemSchema": DIALOGUE_LINE,
                    "example": _LINE_IN,
                }
            }
        }
    },
)
@policy(Scope.READ, Priority.BATCH, takes_lines=True)
async def score_dialogues(
    batch: BatchIn,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    request: RepeatableDep,
    accept: Accept = None,
    prefer: Prefer = None,
    label_space: Annotated[
        LabelSpaceName | None,
        Query(description="Only with an NDJSON body; `unified` if omitted."),
    ] = None,
    summary: WithSummary = False,
) -> Response:
    """Score whole dialogues, each utterance in the context of those before it.

    If the label engine is unavailable, the whole request fails. Nothing is stored, except the
    response for an `Idempotency-Key`, which requires a key that may write.

    With `application/x-ndjson` (or `application/jsonl`, or another of its names) each line is a
    dialogue, and each line of the response its result: in input order, each as soon as it is ready.
    Lines are read no faster than their results are scored and read, so read while you send. A
    broken line gets an `error`, as does a dialogue that the engine fails at; `line` is its number,
    from 1. A line may be as long as a JSON body, the whole body far longer; the label space is a
    query parameter. With `Accept` alone a JSON body gets such a response too. `Idempotency-Key` is
    not accepted in either case. A broken line counts as an utterance; beyond a key's quota each
    line gets an `error`. The request times out if on average it brings less than one utterance that
    can be scored per hundredth of the deadline of batches (3 s by default).

    With `Prefer: respond-async` the dialogues, in either form, are stored as a job, and the
    response is 202 with its `Location`. The job runs in the background, survives restarts, and is
    erased some time after it finishes. It requires a key that may write. An NDJSON body with more
    than a thousand broken lines is refused.
    """
    if request.key is not None:
        caller.require(Scope.WRITE)
    if label_space is not None:
        raise invalid("label_space", detail="is a member of a JSON body", source="query")
    count = check_batch(batch, services.limits, caller.batch_utterances)
    space = await services.answerer.label_space(batch.label_space, tenant)
    if prefers_async(prefer or ()):
        _refuse_summary(summary)

        async def store(once: Once[Job] | None) -> Response:
            return _accepted(await _stored(_given(batch), space, caller, services, once))

        return await request.write(store, _accepted)
    if (media_type := preferred(accept, [JSON, *LINES])) in LINES:
        refuse_key(None if request.key is None else request.key.value, f"with {NDJSON}")
        caller.spend_utterances(count)
        score_one = partial(
            score, label_space=space, tenant=tenant, services=services, summary=summary
        )
        return _streamed(_given(batch), score_one, services.metrics, media_type)

    async def score_all() -> Response:
        caller.spend_utterances(count)
        with first_failure(), listening(services.metrics.observe_stage):
            async with asyncio.TaskGroup() as group:
                tasks = []
                for dialogue in batch.dialogues:
                    result = score(dialogue, space, tenant, services, summary=summary)
                    tasks.append(group.create_task(result))
                    await asyncio.sleep(0)  # not all in one step of the event loop
        return json_response({"results": [with_prefix(task.result()) for task in tasks]})

    return await request.answer(score_all)


async def _counted(lines: AsyncIterator[Given], caller: Caller) -> AsyncIterator[Given]:
    """Count broken lines against the quota; those beyond it get an error that says so."""
    async for line in lines:
        try:
            if line.broken:
                caller.spend_utterances(1)
        except QuotaExceeded as error:
            yield replace(line, content=problem_of(error))
        else:
            yield line


async def _given(batch: BatchIn) -> AsyncIterator[Given]:
    for number, dialogue in enumerate(batch.dialogues, start=1):
        yield Given(number, dialogue)


async def _stored(
    lines: AsyncIterator[Given],
    label_space: AnswerSpace,
    caller: Caller,
    services: Services,
    once: Once[Job] | None = None,
) -> Job:
    caller.require(Scope.WRITE)
    return await store_job(lines, label_space.name, caller, services, once)


def _accepted(job: Job) -> Response:
    response = json_response(job_document(job), 202)
    response.headers[LOCATION] = located(f"/jobs/{job.id}")
    response.headers[APPLIED] = "respond-async"
    return response


def _refuse_summary(summary: bool) -> None:
    if summary:
        detail = "is not available with `Prefer: respond-async`: omit one of them"
        raise invalid("summary", detail=detail, source="query")


def _streamed(
    lines: AsyncIterator[Given],
    score_one: Callable[[DialogueIn], Awaitable[ScoredDialogue]],
    metrics: Metrics,
    media_type: str,
) -> Response:
    async def produce(emit: Emit) -> None:
        async def counting(result: Any) -> None:
            metrics.count_result(result)
            await emit(with_prefix(result))

        with listening(metrics.observe_stage):
            await answer_in_order(lines, score_one, counting)

    return LineStream(produce, media_type)
