"""Schemas of stored dialogues."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from service.api.schemas.names import LabelSpaceName
from service.conversation.labels import UNIFIED
from service.dialogue_format import Input, Said, Speaker
from service.recognition.document import ForecastDocument, RecognitionDocument
from service.settings import Limits

_DEFAULT = Limits()


class UtteranceIn(Said):
    """The next utterance of a dialogue."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"speaker": "Ann", "text": "We won!", "label_space": "meld"}]
        }
    )

    label_space: LabelSpaceName = UNIFIED


class ForecastAsked(BaseModel):
    """Whose next turn to forecast."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speaker: Speaker = Field(
        description="Who would speak next: a speaker of the dialogue, or a new one."
    )
    label_space: LabelSpaceName = UNIFIED


class TimelineAsked(BaseModel):
    """Which part of a timeline to read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: int | None = Field(
        None, ge=0, lt=2**31, description="Index of the preceding utterance; if omitted: the start."
    )
    limit: int | None = Field(
        None,
        ge=1,
        description=f"The most per page; {_DEFAULT.timeline_utterances:,} unless configured "
        "otherwise.",
    )


class LabelIn(Input):
    """A person's label for an utterance."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"label": "joy", "label_space": "meld"}]}
    )

    label: str = Field(
        min_length=1,
        max_length=100,
        description="A label of the label space, in any case.",
        examples=["joy"],
    )
    label_space: LabelSpaceName = UNIFIED


class Recognized(RecognitionDocument):
    """The emotion of an utterance."""

    index: Annotated[int, Field(description="its position in the dialogue, from 0")]


@with_config(
    json_schema_extra={
        "examples": [
            {
                "dialogue_id": "call-42",
                "index": 0,
                "speaker": "Ann",
                "text": "We won!",
                "description": None,
                "start": None,
                "end": None,
                "role": None,
                "emotion": {
                    "label_space": "meld",
                    "label": "joy",
                    "unified": "joyful",
                    "confidence": 0.83,
                    "probabilities": {
                        "neutral": 0.05,
                        "surprise": 0.08,
                        "fear": 0.01,
                        "sadness": 0.01,
                        "joy": 0.83,
                        "disgust": 0.01,
                        "anger": 0.01,
                    },
                    "label_mass": 0.98,
                },
                "model_alone": None,
                "demonstrations": [
                    {
                        "id": "flat-1",
                        "text": "We got the flat, can you believe it?",
                        "label": "joy",
                        "similarity": 0.41,
                        "weight": 0.0,
                        "shown": True,
                    }
                ],
                "model": {"bundle": "erc-mini", "version": "1", "template": "v2"},
                "degraded": [],
                "truncated": False,
            }
        ]
    }
)
class UtteranceOut(Recognized):
    """An utterance of a stored dialogue, with its emotion."""

    dialogue_id: str
    speaker: str
    text: str
    description: Annotated[
        str | None, Field(description="what the scene looks like, if you sent a description")
    ]
    start: Annotated[
        float | None, Field(description="when it begins, in seconds, if you sent that")
    ]
    end: Annotated[float | None, Field(description="when it ends, in seconds, if you sent that")]
    role: Annotated[
        str | None, Field(description="the speaker's part in the dialogue, if you sent one")
    ]


@with_config(
    json_schema_extra={
        "examples": [
            {
                "dialogue_id": "call-42",
                "index": 2,
                "speaker": "Ann",
                "emotion": {
                    "label_space": "meld",
                    "label": "anger",
                    "unified": "mad",
                    "confidence": 0.46,
                    "probabilities": {
                        "neutral": 0.31,
                        "surprise": 0.04,
                        "fear": 0.02,
                        "sadness": 0.11,
                        "joy": 0.03,
                        "disgust": 0.03,
                        "anger": 0.46,
                    },
                    "label_mass": 0.97,
                },
                "model": {"bundle": "erc-mini", "version": "1", "template": "v2"},
                "degraded": [],
                "truncated": False,
            }
        ]
    }
)
class ForecastOut(ForecastDocument):
    """The emotion expected of a speaker's next, unspoken turn."""

    dialogue_id: str
    index: Annotated[int, Field(description="the position that the turn would have")]
    speaker: str


class CorrectionOut(TypedDict):
    """A person's label for an utterance, as stored."""

    label_space: str
    label: str
    unified: Annotated[
        str | None,
        Field(description="the label of `unified` that it maps to; null if it maps to several"),
    ]
    created_at: datetime


class CorrectedOut(CorrectionOut):
    """A stored correction."""

    dialogue_id: str
    index: int
    degraded: Annotated[
        list[str],
        Field(description="Unavailable parts that receive it later, such as `demonstrations`."),
    ]


class TimedUtterance(UtteranceOut):
    """An utterance of a timeline."""

    created_at: datetime
    correction: Annotated[
        CorrectionOut | None, Field(description="a person's label, if there is one")
    ]


class TimelineOut(TypedDict):
    """A dialogue, its utterances in order."""

    id: str
    created_at: datetime
    utterances: list[TimedUtterance]
    next: Annotated[
        str | None, Field(description="the path of the next page; null on the last one")
    ]
