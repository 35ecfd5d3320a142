"""Routes of stored dialogues: timeline, forecast, erasure, corrections."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response

from service.access.keys import Scope
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.idempotency import RepeatableDep, no_content
from service.api.limits import check_forecast, page_limit
from service.api.links import leading_to, located
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import (
    ADMISSION_PROBLEMS,
    BODY_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    INVALID_REQUEST,
)
from service.api.request_headers import IfMatch, IfNoneMatch, etag
from service.api.response_headers import (
    ETAG,
    KEPT_BY_CLIENTS,
    LINK,
    REPLAYED,
    SERVER_TIMING,
    carrying,
)
from service.api.routers.utterances import DialogueId, timed, utterance_document
from service.api.schemas.dialogues import (
    CorrectedOut,
    CorrectionOut,
    ForecastAsked,
    ForecastOut,
    LabelIn,
    TimedUtterance,
    TimelineAsked,
    TimelineOut,
)
from service.api.services import CallerDep, Services, ServicesDep, TenantDep
from service.conversation.labels import UnknownLabel
from service.errors import (
    CorrectionNotFound,
    DatabaseUnavailable,
    DemonstrationsUnavailable,
    DialogueChanged,
    DialogueFull,
    DialogueNotFound,
    EngineUnavailable,
    ForecastNotSupported,
    InvalidLabel,
    TooManyDemonstrations,
    UnsupportedLabelSpace,
    UtteranceNotFound,
)
from service.observability.metrics import Metrics
from service.recognition.document import Emotion, forecast_document
from service.sessions.corrections import Corrected
from service.sessions.idempotency import Once
from service.sessions.records import Correction, StoredUtterance, Timeline

router = APIRouter(prefix="/dialogues", tags=["dialogues"], route_class=JsonRoute)

UtteranceIndex = Annotated[
    int, Path(ge=0, lt=2**31, description="The position in the dialogue, from 0.")
]


@router.get(
    "/{dialogue_id}",
    response_model=TimelineOut,
    responses={
        200: carrying(ETAG, LINK),
        304: {"description": "The dialogue has not changed", **carrying(ETAG)},
        **documented(INVALID_REQUEST, *ADMISSION_PROBLEMS, DialogueNotFound, DatabaseUnavailable),
    },
)
@policy(Scope.READ)
async def read_dialogue(
    dialogue_id: DialogueId,
    query: Annotated[TimelineAsked, Query()],
    tenant: TenantDep,
    services: ServicesDep,
    cached: IfNoneMatch,
) -> Response:
    """Read the timeline: every utterance with its emotion, in order.

    A long timeline has pages: `next`, in the body and in the header `Link`, leads to the next one.
    The header `ETag` changes with every write to the dialogue.
    """
    limit = page_limit(query, services.limits)
    if cached is not None:
        version = await services.sessions.version(tenant, dialogue_id)
        if version is not None and cached.allows(version):
            return Response(status_code=304, headers={ETAG: etag(version), **KEPT_BY_CLIENTS})
    after = -1 if query.after is None else query.after
    timeline = await services.sessions.timeline(tenant, dialogue_id, after, limit)
    following = _next(timeline, limit)
    utterances = [
        timed_utterance_document(dialogue_id, utterance, services)
        for utterance in timeline.utterances
    ]
    response = json_response(
        {
            "id": timeline.id,
            "created_at": timeline.created_at,
            "utterances": await services.with_texts(utterances, tenant),
            "next": following,
        }
    )
    response.headers.update({ETAG: etag(timeline.version), **KEPT_BY_CLIENTS})
    if following is not None:
        response.headers[LINK] = f'<{following}>; rel="next"'
    return response


@router.get(
    "/{dialogue_id}/forecast",
    response_model=ForecastOut,
    responses={
        200: carrying(SERVER_TIMING),
        **documented(
            INVALID_REQUEST,
            *ADMISSION_PROBLEMS,
            DialogueNotFound,
            UnsupportedLabelSpace,
            ForecastNotSupported,
            EngineUnavailable,
            DemonstrationsUnavailable,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.READ)
async def forecast_turn(
    dialogue_id: DialogueId,
    query: Annotated[ForecastAsked, Query()],
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
) -> Response:
    """Forecast the emotion of a speaker's next turn, before it is spoken.

    The forecast depends on the dialogue so far; nothing is stored. A model that was not trained on
    InstructERC's prediction task refuses. The probabilities are the model's own, without the
    calibration of spoken turns. The header `Server-Timing` lists the time of each stage.
    """
    check_forecast(query, services.limits)
    caller.spend_utterances(1)
    with timed(services.metrics) as times:
        forecast = await services.turns.forecast(
            tenant, dialogue_id, query.speaker, query.label_space
        )
    recognition = forecast_document(forecast.recognition, services.answerer.bundle)
    services.metrics.count_forecast(recognition)
    document: ForecastOut = {
        **recognition,
        "dialogue_id": dialogue_id,
        "index": forecast.index,
        "speaker": query.speaker,
    }
    response = json_response(document)
    response.headers[SERVER_TIMING] = times.header
    return response


@router.delete(
    "/{dialogue_id}",
    status_code=204,
    responses={
        204: carrying(REPLAYED),
        **documented(
            INVALID_REQUEST,
            *ADMISSION_PROBLEMS,
            DialogueNotFound,
            DialogueChanged,
            *IDEMPOTENCY_PROBLEMS,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.WRITE)
async def erase_dialogue(
    dialogue_id: DialogueId,
    tenant: TenantDep,
    services: ServicesDep,
    expected: IfMatch,
    request: RepeatableDep,
) -> Response:
    """Erase a dialogue, its utterances, and the demonstrations made of its corrections."""

    async def erase(once: Once[None] | None) -> Response:
        await services.corrector.erase(tenant, dialogue_id, expected, once)
        return no_content()

    return await request.write(erase, no_content)


@router.put(
    "/{dialogue_id}/utterances/{index}/label",
    response_model=CorrectedOut,
    responses={
        200: {
            **carrying(ETAG, REPLAYED),
            **leading_to("take_label_back", dialogue_id="dialogue_id", index="index"),
        },
        **documented(
            *BODY_PROBLEMS,
            *ADMISSION_PROBLEMS,
            DialogueNotFound,
            UtteranceNotFound,
            UnsupportedLabelSpace,
            InvalidLabel,
            DialogueChanged,
            DialogueFull,
            TooManyDemonstrations,
            *IDEMPOTENCY_PROBLEMS,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.WRITE)
async def correct_label(
    dialogue_id: DialogueId,
    index: UtteranceIndex,
    body: LabelIn,
    tenant: TenantDep,
    services: ServicesDep,
    expected: IfMatch,
    request: RepeatableDep,
) -> Response:
    """Correct the label of an utterance; a new correction replaces an earlier one.

    The timeline shows it beside the prediction. It becomes a demonstration, which the next
    prediction may already use. While the demonstrations are unavailable, the correction is stored
    all the same, marked as degraded, and becomes a demonstration later.
    """

    def respond(corrected: Corrected, degraded: tuple[str, ...] = ()) -> Response:
        document: CorrectedOut = {
            **correction_document(corrected.correction, services),
            "dialogue_id": dialogue_id,
            "index": index,
            "degraded": list(degraded),
        }
        response = json_response(document)
        response.headers[ETAG] = etag(corrected.version)
        return response

    async def correct(once: Once[Corrected] | None) -> Response:
        corrected, degraded = await services.corrector.correct(
            tenant, dialogue_id, index, body.label_space, body.label, expected, once
        )
        response = respond(corrected, degraded)
        if degraded:
            await request.amend(response)
        if corrected.prediction is not None:
            correction = correction_document(corrected.correction, services)
            count_agreement(corrected.prediction["emotion"], correction, services.metrics)
        return response

    return await request.write(correct, respond)


@router.delete(
    "/{dialogue_id}/utterances/{index}/label",
    status_code=204,
    responses={
        204: carrying(ETAG, REPLAYED),
        **documented(
            INVALID_REQUEST,
            *ADMISSION_PROBLEMS,
            DialogueNotFound,
            UtteranceNotFound,
            CorrectionNotFound,
            DialogueChanged,
            *IDEMPOTENCY_PROBLEMS,
            DatabaseUnavailable,
        ),
    },
)
@policy(Scope.WRITE)
async def take_label_back(
    dialogue_id: DialogueId,
    index: UtteranceIndex,
    tenant: TenantDep,
    services: ServicesDep,
    expected: IfMatch,
    request: RepeatableDep,
) -> Response:
    """Remove a correction, and the demonstration made of it."""

    async def take_back(once: Once[None] | None) -> Response:
        taken_back = await services.corrector.take_back(tenant, dialogue_id, index, expected, once)
        response = no_content()
        response.headers[ETAG] = etag(taken_back.version)
        return response

    return await request.write(take_back, no_content)


def _next(timeline: Timeline, limit: int) -> str | None:
    """The path of the next page of a timeline; None after the last."""
    if not timeline.utterances or timeline.utterances[-1].index + 1 >= timeline.length:
        return None
    after = timeline.utterances[-1].index
    return located(f"/dialogues/{quote(timeline.id, safe='')}?after={after}&limit={limit}")


def correction_document(correction: Correction, services: Services) -> CorrectionOut:
    """A correction of an utterance, as JSON."""
    # None: a tenant's own, or removed since
    space = services.corrector.label_spaces.get(correction.label_space)
    try:
        unified = None if space is None else space.label(correction.label).unified
    except UnknownLabel:  # a tenant's own label space has the name, or the label was removed since
        unified = None
    return {
        "label_space": correction.label_space,
        "label": correction.label,
        "unified": unified,
        "created_at": correction.created_at,
    }


def count_agreement(emotion: Emotion, correction: CorrectionOut, metrics: Metrics) -> None:
    """Count whether a correction agrees with the prediction, in one label space or as unified.

    Nothing is counted where the label spaces differ and one of the labels has no unified label.
    """
    space, label = emotion["label_space"], emotion["label"]
    if space == correction["label_space"]:
        agreed = label == correction["label"]
    elif None in (emotion["unified"], correction["unified"]):
        return
    else:
        agreed = emotion["unified"] == correction["unified"]
    metrics.count_correction(space, label, agreed=agreed)


def timed_utterance_document(
    dialogue_id: str, utterance: StoredUtterance, services: Services
) -> TimedUtterance:
    """An utterance of a timeline."""
    correction = utterance.correction
    return {
        **utterance_document(dialogue_id, utterance),
        "created_at": utterance.created_at,
        "correction": None if correction is None else correction_document(correction, services),
    }
