"""Documents of stored utterances and corrections."""

from typing import cast

from service.api.schemas.dialogues import CorrectionOut, TimedUtterance, UtteranceOut
from service.api.services import Services
from service.conversation.labels import UnknownLabel
from service.observability.metrics import Metrics
from service.recognition.document import Emotion, RecognitionDocument
from service.sessions.records import Correction, StoredUtterance


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
        **(recognition or cast(RecognitionDocument, utterance.prediction)),
    }


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
