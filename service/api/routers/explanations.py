"""The route of one stored utterance, with an explanation of its answer."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.access.keys import Scope
from service.api.bodies.json_bodies import JsonRoute, json_response
from service.api.policies import policy
from service.api.problems.answers import documented
from service.api.problems.kinds import ADMISSION_PROBLEMS, INVALID_REQUEST
from service.api.routers.dialogues import UtteranceIndex, timed_utterance_document
from service.api.routers.utterances import DialogueId
from service.api.schemas.dialogues import (
    ExplainedUtterance,
    ExplanationAsked,
    ExplanationOut,
    LeftOutDemonstrationOut,
)
from service.api.services import CallerDep, Services, ServicesDep, TenantDep
from service.dialogues.explanations import Explained
from service.errors import (
    DatabaseUnavailable,
    DemonstrationsUnavailable,
    DialogueNotFound,
    EngineUnavailable,
    UnsupportedLabelSpace,
    UtteranceNotFound,
)
from service.priority import Priority
from service.recognition.document import model_document

router = APIRouter(prefix="/dialogues", tags=["dialogues"], route_class=JsonRoute)

# What an explanation counts against the quota: it reads at most 64 prompts, most of which the
# engine has in its prefix cache.
_UTTERANCES = 3


@router.get(
    "/{dialogue_id}/utterances/{index}",
    response_model=ExplainedUtterance,
    responses=documented(
        INVALID_REQUEST,
        *ADMISSION_PROBLEMS,
        DialogueNotFound,
        UtteranceNotFound,
        UnsupportedLabelSpace,
        EngineUnavailable,
        DemonstrationsUnavailable,
        DatabaseUnavailable,
    ),
)
@policy(Scope.READ, Priority.BATCH)
async def read_utterance(
    dialogue_id: DialogueId,
    index: UtteranceIndex,
    query: Annotated[ExplanationAsked, Query()],
    caller: CallerDep,
    tenant: TenantDep,
    services: ServicesDep,
) -> Response:
    """Read one utterance of a dialogue and, with `explain=true`, why it has its label.

    An explanation says how the probability of the label falls when each word, each earlier line and
    each demonstration is left out. It reads at most 64 prompts, after the work of conversations;
    where there are more words, several in a row are left out together, and of many lines only the
    nearest are listed. Nothing is stored.
    """
    if query.explain:
        caller.spend_utterances(_UTTERANCES)
        explained = await services.explainer.explain(tenant, dialogue_id, index)
        utterance, explanation = explained.utterance, _explanation_document(explained, services)
    else:
        utterance = await services.explainer.read(tenant, dialogue_id, index)
        explanation = None
    stored = timed_utterance_document(dialogue_id, utterance, services)
    (document,) = await services.with_texts([stored], tenant)
    return json_response({**document, "explanation": explanation})


def _explanation_document(explained: Explained, services: Services) -> ExplanationOut:
    explanation, text = explained.explanation, explained.utterance.text
    demonstrations: list[LeftOutDemonstrationOut] = [
        {"id": shown.id, "drop": shown.drop} for shown in explanation.demonstrations
    ]
    return {
        "label": explanation.label,
        "label_space": explained.utterance.label_space,
        "probability": explanation.probability,
        "votes": explained.votes,
        "words": [
            {
                "word": text[words.start : words.end],
                "start": words.start,
                "end": words.end,
                "drop": words.drop,
            }
            for words in explanation.words
        ],
        "lines": [{"index": line.index, "drop": line.drop} for line in explanation.lines],
        "demonstrations": [
            *demonstrations,
            *(LeftOutDemonstrationOut(id=missing, drop=None) for missing in explained.missing),
        ],
        "model": model_document(services.answerer.bundle),
    }
