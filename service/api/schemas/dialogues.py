"""Schemas of stored dialogues."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from service.api.schemas.names import LabelSpaceName
from service.conversation.labels import UNIFIED
from service.dialogue_format import Input, Said, Speaker
from service.recognition.document import ForecastDocument, Model, RecognitionDocument
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


_UTTERANCE: dict[str, Any] = {
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


@with_config(json_schema_extra={"examples": [_UTTERANCE]})
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


class ExplanationAsked(BaseModel):
    """Whether to explain the answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    explain: bool = Field(
        False,
        description="Whether to explain the answer, which counts against the quota as three "
        "utterances.",
    )


_Drop = Annotated[
    float,
    Field(
        description="the probability of the label with all parts minus that without this one; "
        "negative if the label is more probable without it"
    ),
]


class LeftOutWordsOut(TypedDict):
    """A word of the utterance, or several in a row where it has too many."""

    word: str
    start: Annotated[int, Field(description="offset of its first character in the text")]
    end: Annotated[int, Field(description="offset after its last character, in code points")]
    drop: _Drop


class LeftOutLineOut(TypedDict):
    """An earlier utterance that the model reads."""

    index: Annotated[int, Field(description="its position in the dialogue, from 0")]
    drop: _Drop


class LeftOutDemonstrationOut(TypedDict):
    """A demonstration that the prompt showed."""

    id: str
    drop: Annotated[
        float | None,
        Field(
            description="as of words; null if the demonstration was deleted or is unavailable, so "
            "that the explanation is without it"
        ),
    ]


class ExplanationOut(TypedDict):
    """How the probability of the label falls when a part is left out; the highest drop first."""

    label: Annotated[
        str,
        Field(
            description="What the model alone answered: the label of `model_alone`, or else of "
            "`emotion`."
        ),
    ]
    label_space: str
    probability: Annotated[
        float, Field(description="of the label, as the model alone answers now with all parts")
    ]
    votes: Annotated[
        float,
        Field(
            description="The share of the stored answer that corrections decided, 0 to 1; nothing "
            "else here has to do with them."
        ),
    ]
    words: list[LeftOutWordsOut]
    lines: list[LeftOutLineOut]
    demonstrations: list[LeftOutDemonstrationOut]
    model: Model


@with_config(
    json_schema_extra={
        "examples": [
            {
                **_UTTERANCE,
                "created_at": "2026-05-04T09:30:00.250000Z",
                "correction": None,
                "explanation": {
                    "label": "joy",
                    "label_space": "meld",
                    "probability": 0.83,
                    "votes": 0.0,
                    "words": [
                        {"word": "won!", "start": 3, "end": 7, "drop": 0.61},
                        {"word": "We", "start": 0, "end": 2, "drop": 0.02},
                    ],
                    "lines": [],
                    "demonstrations": [{"id": "flat-1", "drop": 0.05}],
                    "model": {"bundle": "erc-mini", "version": "1", "template": "v2"},
                },
            }
        ]
    }
)
class ExplainedUtterance(TimedUtterance):
    """An utterance, with an explanation if asked for."""

    explanation: Annotated[
        ExplanationOut | None, Field(description="null unless `explain` is true")
    ]


class TimelineOut(TypedDict):
    """A dialogue, its utterances in order."""

    id: str
    created_at: datetime
    utterances: list[TimedUtterance]
    next: Annotated[
        str | None, Field(description="the path of the next page; null on the last one")
    ]
