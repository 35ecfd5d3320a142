"""Whole dialogues at once; nothing of them is kept."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from service.api.auth import CallerDep
from service.api.bodies import JsonRoute, json_answer
from service.api.idempotency import RepeatableDep
from service.api.limits import check_batch
from service.api.problems import ADMISSION_PROBLEMS, BODY_PROBLEMS, documented, problem_of
from service.api.schemas import BatchIn, BatchOut, DialogueIn
from service.api.services import MetricsDep, Services, ServicesDep, TenantDep
from service.conversation.dialogue import Utterance
from service.conversation.labels import LabelSpace
from service.errors import (
    DatabaseUnavailable,
    EngineUnavailable,
    IdempotencyKeyReused,
    UnsupportedLabelSpace,
    UtteranceTooLong,
)
from service.observability.metrics import Metrics
from service.priority import Priority
from service.recognition.dialogues import recognize_dialogue
from service.recognition.document import document
from service.stages import listening

router = APIRouter(tags=["batch"], route_class=JsonRoute)


@router.post(
    "/batch",
    response_model=BatchOut,
    responses=documented(
        *BODY_PROBLEMS,
        *ADMISSION_PROBLEMS,
        UnsupportedLabelSpace,
        IdempotencyKeyReused,
        EngineUnavailable,
        DatabaseUnavailable,
    ),
)
async def score_dialogues(
    batch: BatchIn,
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
    metrics: MetricsDep,
    request: RepeatableDep,
) -> Response:
    """Score whole dialogues, each utterance in the light of those before it.

    A dialogue that cannot be scored, say for an utterance longer than the model reads, gets an
    `error`; the others are answered. Where the label engine is away, the request fails as a whole.
    Nothing of it is kept, but for an `Idempotency-Key` its answer.
    """
    count = check_batch(batch, services.limits, caller.batch_utterances)
    label_space = services.recognizer.label_space(batch.label_space)

    async def score() -> Response:
        caller.spend_utterances(count)
        try:
            async with asyncio.TaskGroup() as group:
                with listening(metrics.observe_stage):
                    tasks = [
                        group.create_task(_result(dialogue, label_space, tenant, services, metrics))
                        for dialogue in batch.dialogues
                    ]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return json_answer({"results": [task.result() for task in tasks]})

    return await request.answer(score)


async def _result(
    dialogue: DialogueIn,
    label_space: LabelSpace,
    tenant: str,
    services: Services,
    metrics: Metrics,
) -> dict[str, Any]:
    recognizer = services.recognizer
    utterances = [
        Utterance(said.speaker, said.text, description=said.description)
        for said in dialogue.utterances
    ]
    try:
        recognitions = await recognize_dialogue(
            recognizer, utterances, label_space, services.places.of(Priority.BATCH), tenant
        )
    except UtteranceTooLong as error:
        return {"id": dialogue.id, "error": problem_of(error)}
    for recognition in recognitions:
        label = recognition.prediction.label.name
        metrics.count_prediction(label_space.name, label, recognition.degraded)
    return {
        "id": dialogue.id,
        "utterances": [
            {"index": index, **document(recognition, recognizer.bundle)}
            for index, recognition in enumerate(recognitions)
        ],
    }
