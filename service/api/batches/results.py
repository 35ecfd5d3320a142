"""Results of whole dialogues, in batches and jobs."""

import logging
from collections.abc import Sequence
from typing import Any, cast

from service.api.problems.answers import problem, problem_of
from service.api.problems.kinds import INTERNAL_ERROR
from service.api.schemas.batch import ScoredDialogue, ScoredUtterance
from service.api.schemas.summaries import summary_document
from service.api.services import Services
from service.conversation.dialogue import Utterance
from service.dialogue_files import utterances_of
from service.dialogue_format import DialogueIn
from service.dialogues.jobs import Score
from service.errors import ServiceError, Unavailable
from service.priority import Priority
from service.recognition.answering import AnswerSpace
from service.recognition.dialogues import recognize_dialogue
from service.recognition.document import RecognitionDocument, document, without_texts
from service.recognition.result import Recognition
from service.tracing import listening

log = logging.getLogger(__name__)

# The members of an utterance that its result repeats, where they were sent.
_REPEATED = {"id", "start", "end", "role"}


async def score(
    dialogue: DialogueIn,
    label_space: AnswerSpace,
    tenant: str,
    services: Services,
    *,
    summary: bool = False,
) -> ScoredDialogue:
    """Recognize the utterances of a dialogue.

    Args:
        summary: the result has one.

    Raises:
        EngineUnavailable: the label engine does not answer.
    """
    given = utterances_of(dialogue)
    recognitions, documents = await recognized(given, label_space, tenant, services)
    utterances: list[ScoredUtterance] = []
    pairs = zip(dialogue.utterances, documents, strict=True)
    for index, (utterance, answer) in enumerate(pairs):
        repeated = utterance.model_dump(include=_REPEATED, exclude_none=True)
        utterances.append(cast(ScoredUtterance, {"index": index, **answer, **repeated}))
    result: ScoredDialogue = {"id": dialogue.id, "utterances": utterances}
    if summary:
        result["summary"] = summary_document(services.summarizer.scored(given, recognitions))
    return result


async def recognized(
    utterances: Sequence[Utterance], label_space: AnswerSpace, tenant: str, services: Services
) -> tuple[list[Recognition], list[RecognitionDocument]]:
    """Recognize the utterances of a dialogue, and count the answers.

    Returns:
        Each recognition, and each as JSON.

    Raises:
        EngineUnavailable: the label engine does not answer.
    """
    answerer = services.answerer
    place = services.places.of(Priority.BATCH, tenant)
    recognitions = await recognize_dialogue(answerer, utterances, label_space, place, tenant)
    documents = [document(recognition, answerer.bundle) for recognition in recognitions]
    for answer in documents:
        services.metrics.count_prediction(answer)
    return recognitions, documents


def job_scorer(services: Services) -> Score:
    """Score the dialogues of jobs, as `service.api.batches.jobs.store_job` stores them."""

    async def result_of(tenant: str, label_space: str, stored: dict[str, Any]) -> dict[str, Any]:
        if "error" in stored:
            services.metrics.count_result(stored)
            return stored
        line = stored.pop("line")
        dialogue = DialogueIn.model_validate(stored)
        try:
            space = await services.answerer.label_space(label_space, tenant)
            with listening(services.metrics.observe_stage):
                scored = await score(dialogue, space, tenant, services)
            return {"line": line, **without_texts(scored)}
        except Unavailable:
            raise
        except ServiceError as error:
            refusal = problem_of(error)
        except Exception:
            log.exception("line %d of a job failed", line)
            refusal = problem(INTERNAL_ERROR, "the log has the cause")
        result = {"line": line, "id": dialogue.id, "error": refusal}
        services.metrics.count_result(result)
        return result

    return result_of
