"""Dialogues that are kept: a turn at a time, the timeline, the next turn's forecast, erasure."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from service.api.bodies import JsonRoute, json_answer
from service.api.idempotency import RepeatableDep
from service.api.limits import check_forecast, check_said
from service.api.problems import BODY_PROBLEMS, INVALID_REQUEST, documented
from service.api.schemas import (
    ForecastAsked,
    ForecastOut,
    Identifier,
    TimelineOut,
    UtteranceIn,
    UtteranceOut,
)
from service.api.services import MetricsDep, ServicesDep, TenantDep
from service.api.timing import SERVER_TIMING, StageTimes
from service.errors import (
    DatabaseUnavailable,
    DialogueBusy,
    DialogueNotFound,
    EngineUnavailable,
    ForecastNotSupported,
    IdempotencyKeyReused,
    UnsupportedLabelSpace,
    UtteranceTooLong,
)
from service.recognition.document import forecast_document
from service.sessions.store import StoredUtterance
from service.stages import listening

router = APIRouter(prefix="/dialogues", tags=["dialogues"], route_class=JsonRoute)

DialogueId = Annotated[
    Identifier, Path(description="Your own id of the dialogue: printable characters other than /.")
]


@router.post(
    "/{dialogue_id}/utterances",
    status_code=201,
    response_model=UtteranceOut,
    responses=documented(
        *BODY_PROBLEMS,
        UnsupportedLabelSpace,
        UtteranceTooLong,
        IdempotencyKeyReused,
        EngineUnavailable,
        DatabaseUnavailable,
        DialogueBusy,
    ),
)
async def add_utterance(
    dialogue_id: DialogueId,
    said: UtteranceIn,
    tenant: TenantDep,
    services: ServicesDep,
    metrics: MetricsDep,
    request: RepeatableDep,
) -> Response:
    """Append an utterance to a dialogue and answer what emotion it carries.

    The first utterance creates the dialogue. When the answer arrives, utterance and emotion are
    stored; after a refusal nothing is. The header `Server-Timing` says where the time went.
    """
    check_said(said, services.limits)

    def answered(stored: StoredUtterance) -> Response:
        return json_answer(_utterance(dialogue_id, stored), 201)

    async def take() -> Response:
        times = StageTimes(metrics)
        with listening(times):
            stored = await services.turns.take(
                tenant,
                dialogue_id,
                said.speaker,
                said.text,
                said.label_space,
                request.once(answered),
            )
        emotion, degraded = stored.prediction["emotion"], stored.prediction["degraded"]
        metrics.count_prediction(emotion["label_space"], emotion["label"], degraded)
        answer = answered(stored)
        answer.headers[SERVER_TIMING] = times.header
        return answer

    return await request.answer(take, keeps=True)


@router.get(
    "/{dialogue_id}",
    response_model=TimelineOut,
    responses=documented(INVALID_REQUEST, DialogueNotFound, DatabaseUnavailable),
)
async def read_dialogue(
    dialogue_id: DialogueId, tenant: TenantDep, services: ServicesDep
) -> Response:
    """The timeline: every utterance with its emotion, in order."""
    timeline = await services.sessions.timeline(tenant, dialogue_id)
    utterances = [
        _utterance(dialogue_id, stored) | {"created_at": stored.created_at}
        for stored in timeline.utterances
    ]
    return json_answer(
        {"id": timeline.id, "created_at": timeline.created_at, "utterances": utterances}
    )


@router.get(
    "/{dialogue_id}/forecast",
    response_model=ForecastOut,
    responses=documented(
        INVALID_REQUEST,
        DialogueNotFound,
        UnsupportedLabelSpace,
        ForecastNotSupported,
        UtteranceTooLong,
        EngineUnavailable,
        DatabaseUnavailable,
    ),
)
async def forecast_turn(
    dialogue_id: DialogueId,
    asked: Annotated[ForecastAsked, Query()],
    tenant: TenantDep,
    services: ServicesDep,
    metrics: MetricsDep,
) -> Response:
    """Forecast what emotion a speaker's next turn will carry, before it is spoken.

    The model goes by the dialogue so far; nothing is stored. It must have been trained on
    InstructERC's prediction task: one that was not refuses. The header `Server-Timing` says where
    the time went.
    """
    check_forecast(asked, services.limits)
    times = StageTimes(metrics)
    with listening(times):
        forecast = await services.turns.forecast(
            tenant, dialogue_id, asked.speaker, asked.label_space
        )
    found = forecast_document(forecast.recognition, services.recognizer.bundle)
    metrics.count_forecast(found["emotion"]["label_space"], found["emotion"]["label"])
    answer = json_answer(
        {"dialogue_id": dialogue_id, "index": forecast.index, "speaker": asked.speaker, **found}
    )
    answer.headers[SERVER_TIMING] = times.header
    return answer


@router.delete(
    "/{dialogue_id}",
    status_code=204,
    responses=documented(
        INVALID_REQUEST, DialogueNotFound, IdempotencyKeyReused, DatabaseUnavailable
    ),
)
async def erase_dialogue(
    dialogue_id: DialogueId, tenant: TenantDep, services: ServicesDep, request: RepeatableDep
) -> Response:
    """Erase a dialogue with all that was said."""

    def answered(_: None) -> Response:
        return Response(status_code=204)

    async def erase() -> Response:
        await services.sessions.delete(tenant, dialogue_id, request.once(answered))
        return answered(None)

    return await request.answer(erase, keeps=True)


def _utterance(dialogue_id: str, stored: StoredUtterance) -> dict[str, Any]:
    return {
        "dialogue_id": dialogue_id,
        "index": stored.index,
        "speaker": stored.speaker,
        "text": stored.text,
        **stored.prediction,
    }
