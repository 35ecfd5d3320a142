"""Dialogues that are kept: what is posted, and what is answered."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from service.api.schemas.names import LabelSpaceName
from service.conversation.labels import UNIFIED
from service.dialogue_format import Input, Said, Speaker
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
        description="Who would speak next: somebody of the dialogue, or somebody new to it."
    )
    label_space: LabelSpaceName = UNIFIED


class TimelineAsked(BaseModel):
    """Which part of a timeline to read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: int | None = Field(
        None, ge=0, lt=2**31, description="Index of the utterance before; left out: from the start."
    )
    limit: int | None = Field(
        None,
        ge=1,
        description=f"How many at most; {_DEFAULT.timeline_utterances:,} unless the service is set "
        "otherwise.",
    )


class LabelIn(Input):
    """What an utterance carries, as a person says."""

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


class Emotion(BaseModel):
    """What emotion an utterance carries."""

    label_space: str
    trained: bool = Field(
        True,
        exclude_if=bool,
        description="False where no model was trained on the labels: they are a tenant's own, from "
        "examples. Left out otherwise.",
    )
    label: str = Field(description="the most probable label, in the corpus's own word")
    unified: str | None = Field(
        description="the label of `unified` that it maps to; null where it maps to several"
    )
    confidence: float = Field(description="its probability")
    probabilities: dict[str, float] = Field(
        description="of each label, calibrated unless forecast; they sum to 1"
    )
    label_mass: float = Field(
        description="The share of the model's whole vocabulary that went to the labels; low when "
        "it would rather have said something else."
    )


class Shown(BaseModel):
    """A demonstration that had a part in the answer."""

    id: str
    text: str | None = Field(
        description="As it is now; null, in what was stored, once the demonstration is gone or "
        "while the demonstrations do not answer."
    )
    label: str = Field(description="of the label space that was read: of a derived one, its source")
    similarity: float = Field(description="cosine, -1 to 1")
    weight: float = Field(
        description="The share of the answer that is its own word, beside the model's: 0 to 1. "
        "Corrections of like utterances have one."
    )
    shown: bool = Field(description="Whether the prompt shows it to the model.")


class Model(BaseModel):
    """What made the prediction."""

    bundle: str
    version: str
    template: str


class Recognized(BaseModel):
    """What an answer says of an utterance."""

    index: int = Field(description="its place in the dialogue, from 0")
    emotion: Emotion
    model_alone: Emotion | None = Field(
        description="What the model says without the corrections that have a weight in `emotion`; "
        "null where none has."
    )
    demonstrations: list[Shown] = Field(description="nearest first")
    model: Model
    degraded: list[str] = Field(
        description="Why the answer may be worse: `demonstrations` did not answer and were done "
        "without; the text is in a `language` that the model was not trained on."
    )
    truncated: bool = Field(
        description="Whether the utterance is longer than the model reads, which then read its end."
    )


class UtteranceOut(Recognized):
    """An utterance of a stored dialogue, with its emotion."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dialogue_id": "call-42",
                    "index": 0,
                    "speaker": "Ann",
                    "text": "We won!",
                    "description": None,
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

    dialogue_id: str
    speaker: str
    text: str
    description: str | None = Field(description="what the scene looked like, where that was said")


class ForecastOut(BaseModel):
    """What emotion a speaker's next, unspoken turn will carry."""

    model_config = ConfigDict(
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

    dialogue_id: str
    index: int = Field(description="the place in the dialogue that the turn would have")
    speaker: str
    emotion: Emotion
    model: Model
    degraded: list[str] = Field(description="Parts that did not answer and were done without.")
    truncated: bool = Field(
        description="Whether the last utterance is longer than the model reads, which then read "
        "its end."
    )


class CorrectionOut(BaseModel):
    """What a person said that an utterance carries."""

    label_space: str
    label: str
    unified: str | None = Field(
        description="the label of `unified` that it maps to; null where it maps to several"
    )
    created_at: datetime


class CorrectedOut(CorrectionOut):
    """A correction that was stored."""

    dialogue_id: str
    index: int
    degraded: list[str] = Field(
        description="Parts that did not answer and are told later, such as `demonstrations`."
    )


class TimedUtterance(UtteranceOut):
    """An utterance of a timeline."""

    created_at: datetime
    correction: CorrectionOut | None = Field(description="a person's label, where there is one")


class TimelineOut(BaseModel):
    """A dialogue, its utterances in order."""

    id: str
    created_at: datetime
    utterances: list[TimedUtterance]
    next: str | None = Field(description="where the timeline goes on; null where it ends")
