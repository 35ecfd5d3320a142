"""What is stored of a dialogue, as JSON."""

from collections.abc import Mapping
from typing import Any

from service.api.services import Services
from service.conversation.labels import AnyLabelSpace, UnknownLabel
from service.observability.metrics import Metrics
from service.sessions.records import Correction, StoredUtterance


def correction_document(found: Correction | None, services: Services) -> dict[str, Any] | None:
    """What a person said of an utterance; None where nobody has."""
    if found is None:
        return None
    spaces: Mapping[str, AnyLabelSpace] = {**services.label_spaces, **services.answerer.derived}
    space = spaces.get(found.label_space)  # a tenant's own, or taken away since
    try:
        unified = None if space is None else space.label(found.label).unified
    except UnknownLabel:  # of a tenant's own that has the name, or taken away since
        unified = None
    return {
        "label_space": found.label_space,
        "label": found.label,
        "unified": unified,
        "created_at": found.created_at,
    }


def count_agreement(emotion: Mapping[str, Any], said: Mapping[str, Any], metrics: Metrics) -> None:
    """Count whether a person agrees with what was predicted, in one label space or as unified.

    Where the label spaces differ and one of the labels has no unified one, nobody can say.

    Args:
        emotion: as an answer has it.
        said: the correction's document.
    """
    space, label = emotion["label_space"], emotion["label"]
    if space == said["label_space"]:
        agreed = label == said["label"]
    elif None in (emotion["unified"], said["unified"]):
        return
    else:
        agreed = emotion["unified"] == said["unified"]
    metrics.count_correction(space, label, agreed=agreed)


def utterance_document(dialogue_id: str, stored: StoredUtterance) -> dict[str, Any]:
    """An utterance with its emotion."""
    return {
        "dialogue_id": dialogue_id,
        "index": stored.index,
        "speaker": stored.speaker,
        "text": stored.text,
        "description": stored.description,
        **stored.prediction,
    }
