"""Schemas of the items of streams: NDJSON lines and events.

They are documented as `itemSchema`, a keyword of OpenAPI 3.2 that 3.1 lacks.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.api.problems.answers import Problem
from service.api.schemas.batch import ScoredDialogue
from service.api.schemas.dialogues import CorrectionOut, UtteranceOut
from service.api.schemas.transcripts import RefusedLineOfTranscript, ScoredTranscript
from service.dialogue_format import DialogueIn


class ScoredLine(ScoredDialogue):
    """A dialogue of an NDJSON batch, with the emotion of each utterance."""

    line: Annotated[int, Field(ge=1, description="number of the line in the request, from 1")]


class RefusedLine(TypedDict):
    """A line that could not be scored; it does not affect the others."""

    line: Annotated[int, Field(ge=1, description="number of the line in the request, from 1")]
    id: NotRequired[
        Annotated[str, Field(description="the dialogue's id, if the line could be read")]
    ]
    error: Problem


class PredictionEvent(UtteranceOut):
    """An utterance was appended."""

    created_at: datetime


class CorrectionEvent(TypedDict):
    """A person corrected an utterance's label, or removed the correction."""

    dialogue_id: str
    index: int
    correction: CorrectionOut | None


class ErasedEvent(TypedDict):
    """The dialogue was erased; nothing comes after it."""

    dialogue_id: str


# Schemas that no route returns as a whole response.
ITEMS: Sequence[type] = (
    ScoredLine,
    RefusedLine,
    ScoredTranscript,
    RefusedLineOfTranscript,
    PredictionEvent,
    CorrectionEvent,
    ErasedEvent,
)


def _reference(model: type) -> Mapping[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _event(name: str, model: type) -> Mapping[str, Any]:
    return {
        "type": "object",
        "required": ["id", "event", "data"],
        "properties": {
            "id": {"type": "string", "pattern": r"^[0-9a-f]+\.([0-9]+|erased)$"},
            "event": {"const": name},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": _reference(model),
            },
        },
    }


DIALOGUE_LINE = _reference(DialogueIn)
RESULT_LINE = {"anyOf": [_reference(ScoredLine), _reference(RefusedLine)]}
TRANSCRIPT_LINE = {"anyOf": [_reference(ScoredTranscript), _reference(RefusedLineOfTranscript)]}
EVENT = {
    "oneOf": [
        _event("prediction", PredictionEvent),
        _event("correction", CorrectionEvent),
        _event("erased", ErasedEvent),
    ]
}
