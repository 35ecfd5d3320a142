"""Routes of stored dialogues: utterances, timeline, forecast, corrections, erasure."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response

from service.access.keys import Scope
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.headers.server_timing import timed
from service.api.idempotency import RepeatableDep
from service.api.limits import check_forecast, check_utterance, page_limit
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
from service.api.schemas.dialogues import (
    CorrectedOut,
    ForecastAsked,
    ForecastOut,
    LabelIn,
    TimelineAsked,
    TimelineOut,
    UtteranceIn,
    UtteranceOut,
)
from service.api.schemas.names import Identifier
from service.api.services import CallerDep, ServicesDep, TenantDep
from service.api.timelines import (
    correction_document,
    count_agreement,
    timed_utterance_document,
    utterance_document,
)
from service.errors import (
    CorrectionNotFound,
    DatabaseUnavailable,
    DemonstrationsUnavailable,
    DialogueBusy,
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
from service.recognition.document import RecognitionDocument, forecast_document
from service.sessions.corrections import Corrected
from service.sessions.records import StoredUtterance, Timeline

router = APIRouter(prefix="/dialogues", tags=["dialogues"], route_class=JsonRoute)

DialogueId = Annotated[
    Identifier,
    Path(
        description="Your own id of the dialogue: printable characters other than /.",
        examples=["call-42"],
    ),
]
UtteranceIndex = Annotated[
    int, Path(ge=0, lt=2**31, description="The position in the dialogue, from 0.")
]


@router.post(
    "/{dialogue_id}/utterances",
    status_code=201,
    response_model=UtteranceOut,
    responses={
        201: {
            **carrying(ETAG, SERVER_TIMING, REPLAYED),
            **leading_to("correct_label", dialogue_id="dialogue_id", index="index"),
        },
        **documented(
            *BODY_PROBLEMS,
            *ADMISSION_PROBLEMS,
            UnsupportedLabelSpace,
            DialogueChanged,
            DialogueFull,
            *IDEMPOTENCY_PROBLEMS,
            EngineUnavailable,
            DemonstrationsUnavailable,
            DatabaseUnavailable,
            DialogueBusy,
        ),
    },
)
@policy(Scope.WRITE)
async def add_utterance(
    dialogue_id: DialogueId,
    utterance: UtteranceIn,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    expected: IfMatch,
    request: RepeatableDep,
) -> Response:
    """Append an utterance to a dialogue and predict its emotion.

    The first utterance creates the dialogue. When the response arrives, utterance and emotion are
    stored; an error stores nothing. The header `Server-Timing` lists the time of each stage.
    """
    check_utterance(utterance, services.limits)

    def respond(
        stored: StoredUtterance, recognition: RecognitionDocument | None = None
    ) -> Response:
        return json_response(utterance_document(dialogue_id, stored, recognition), 201)

    async def take() -> Response:
        caller.spend_utterances(1)
        with timed(services.metrics) as times:
            turn = await services.turns.take(
                tenant,
                dialogue_id,
                utterance.speaker,
                utterance.text,
                utterance.label_space,
                utterance.description,
                expected=expected,
                once=request.once(respond),
            )
        services.metrics.count_prediction(turn.document)
        response = respond(turn.appended.utterance, turn.document)
        response.headers[SERVER_TIMING] = times.header
        response.headers[ETAG] = etag(turn.appended.version)
        return response

    return await request.answer(take, keeps=True)


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

    def respond(_: None) -> Response:
        return Response(status_code=204)

    async def erase() -> Response:
        await services.corrector.erase(tenant, dialogue_id, expected, request.once(respond))
        return respond(None)

    return await request.answer(erase, keeps=True)


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

    async def correct() -> Response:
        corrected, degraded = await services.corrector.correct(
            tenant,
            dialogue_id,
            index,
            body.label_space,
            body.label,
            expected,
            request.once(respond),
        )
        response = respond(corrected, degraded)
        if degraded:
            await request.amend(response)
        if corrected.prediction is not None:
            correction = correction_document(corrected.correction, services)
            count_agreement(corrected.prediction["emotion"], correction, services.metrics)
        return response

    return await request.answer(correct, keeps=True)


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

    def respond(_: None) -> Response:
        return Response(status_code=204)

    async def take_back() -> Response:
        taken_back = await services.corrector.take_back(
            tenant, dialogue_id, index, expected, request.once(respond)
        )
        response = respond(None)
        response.headers[ETAG] = etag(taken_back.version)
        return response

    return await request.answer(take_back, keeps=True)


def _next(timeline: Timeline, limit: int) -> str | None:
    """The path of the next page of a timeline; None after the last."""
    if not timeline.utterances or timeline.utterances[-1].index + 1 >= timeline.length:
        return None
    after = timeline.utterances[-1].index
    return located(f"/dialogues/{quote(timeline.id, safe='')}?after={after}&limit={limit}")
