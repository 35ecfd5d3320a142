"""The route of an utterance of a stored dialogue, and the times of its stages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, cast

from fastapi import APIRouter, Path, Response

from service.access.keys import Scope
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.idempotency import RepeatableDep
from service.api.limits import check_utterance
from service.api.links import leading_to
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import ADMISSION_PROBLEMS, BODY_PROBLEMS, IDEMPOTENCY_PROBLEMS
from service.api.request_headers import IfMatch, etag
from service.api.response_headers import ETAG, REPLAYED, SERVER_TIMING, carrying
from service.api.schemas.dialogues import UtteranceIn, UtteranceOut
from service.api.schemas.names import Identifier
from service.api.services import CallerDep, ServicesDep, TenantDep
from service.conversation.dialogue import Utterance
from service.errors import (
    DatabaseUnavailable,
    DemonstrationsUnavailable,
    DialogueBusy,
    DialogueChanged,
    DialogueFull,
    EngineUnavailable,
    UnsupportedLabelSpace,
)
from service.observability.metrics import Metrics
from service.recognition.document import RecognitionDocument
from service.sessions.idempotency import Once
from service.sessions.records import StoredUtterance
from service.tracing import Stage, listening

router = APIRouter(prefix="/dialogues", tags=["dialogues"], route_class=JsonRoute)

DialogueId = Annotated[
    Identifier,
    Path(
        description="Your own id of the dialogue: printable characters other than /.",
        examples=["call-42"],
    ),
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

    async def take(once: Once[StoredUtterance] | None) -> Response:
        caller.spend_utterances(1)
        with timed(services.metrics) as times:
            turn = await services.turns.take(
                tenant,
                dialogue_id,
                Utterance(
                    utterance.speaker,
                    utterance.text,
                    description=utterance.description,
                    start=utterance.start,
                    end=utterance.end,
                    role=utterance.role,
                ),
                utterance.label_space,
                expected=expected,
                once=once,
            )
        services.metrics.count_prediction(turn.document)
        response = respond(turn.appended.utterance, turn.document)
        response.headers[SERVER_TIMING] = times.header
        response.headers[ETAG] = etag(turn.appended.version)
        return response

    return await request.write(take, respond)


def utterance_document(
    dialogue_id: str, utterance: StoredUtterance, recognition: RecognitionDocument | None = None
) -> UtteranceOut:
    """An utterance with its emotion.

    Args:
        recognition: with the texts of demonstrations, which the stored document lacks.
    """
    return {
        "dialogue_id": dialogue_id,
        "index": utterance.index,
        "speaker": utterance.speaker,
        "text": utterance.text,
        "description": utterance.description,
        "start": utterance.start,
        "end": utterance.end,
        "role": utterance.role,
        **(recognition or cast(RecognitionDocument, utterance.prediction)),
    }


class StageTimes:
    """The seconds that one utterance spends in each stage; a stage may be entered twice."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = {}

    def __call__(self, stage: Stage, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def header(self) -> str:
        """The header's value, in milliseconds (W3C Server Timing)."""
        return ", ".join(
            f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in self.seconds.items()
        )


@contextmanager
def timed(metrics: Metrics) -> Iterator[StageTimes]:
    """Time the stages of the utterance handled in the block, and record them in the metrics."""
    times = StageTimes()
    try:
        with listening(times):
            yield times
    finally:
        for stage, seconds in times.seconds.items():
            metrics.observe_stage(stage, seconds)
