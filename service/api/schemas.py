"""What requests and answers look like: their JSON, as pydantic models.

Those of answers document them; the routes write plain dicts. Lengths that are settings are checked
in `service.api.limits`.
"""

import unicodedata
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field
from pydantic_core import PydanticCustomError

from service.api.strings import Identifier, LabelSpaceName
from service.conversation.labels import UNIFIED
from service.conversation.words import NAME_PATTERN, fault_of_name
from service.dialogue_format import DialogueIn, Input, Name, Patterned, Said, Speaker, Text
from service.settings import Limits

_DEFAULT = Limits()

# Of a label space of a tenant's own: each example is read by the model before the answer.
MOST_LABELS = 20
LEAST_EXAMPLES, MOST_EXAMPLES, MOST_EXAMPLES_IN_ALL = 3, 50, 300


_SourceLabel = Annotated[str, Field(max_length=100)]


def _in_lower_case(value: str) -> str:
    if (fault := fault_of_name(value)) is not None:
        raise PydanticCustomError("name", fault)
    if value != value.casefold() or not value.strip():
        raise PydanticCustomError("label", "must be in lower case")
    if value != unicodedata.normalize("NFC", value.strip()):
        raise PydanticCustomError("label", "must be in Unicode's form NFC, no space around it")
    return value


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


class BatchIn(Input):
    """Dialogues to score; nothing of them is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label_space": "unified",
                    "dialogues": [
                        {
                            "id": "a",
                            "utterances": [
                                {"speaker": "Ann", "text": "Did you get the job?"},
                                {"speaker": "Bo", "text": "They said yes this morning!"},
                            ],
                        }
                    ],
                }
            ]
        }
    )

    label_space: LabelSpaceName = UNIFIED
    dialogues: Annotated[list[DialogueIn], FailFast()] = Field(
        description=f"Each id once; {_DEFAULT.batch_dialogues:,} dialogues and "
        f"{_DEFAULT.batch_utterances:,} utterances in all unless the service is set otherwise."
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


class DemonstrationIn(Input):
    """A labelled utterance to show to the model."""

    label_space: LabelSpaceName
    label: str = Field(
        min_length=1,
        max_length=100,
        description="A label of the label space, in any case.",
        examples=["joy"],
    )
    text: Text
    id: Identifier | None = Field(
        None,
        description="Replaces your demonstration that has this id. Left out, it is made from the "
        "rest, so that the same demonstration sent twice is there once.",
    )


class DemonstrationsIn(Input):
    """Demonstrations to add."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "demonstrations": [
                        {
                            "label_space": "meld",
                            "label": "joy",
                            "text": "We got the flat, can you believe it?",
                            "id": "flat-1",
                        },
                        {"label_space": "meld", "label": "anger", "text": "Who parks like that?"},
                    ]
                }
            ]
        }
    )

    demonstrations: Annotated[list[DemonstrationIn], FailFast()] = Field(
        min_length=1,
        description=f"Each id once; {_DEFAULT.batch_utterances:,} of them unless the service is "
        "set otherwise.",
    )


class DemonstrationListing(BaseModel):
    """Which part of the demonstrations to list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_space: LabelSpaceName | None = Field(None, description="Left out: all of them.")
    limit: int = Field(100, ge=1, le=1000, description="How many at most.")
    after: UUID | None = Field(None, description="`next` of the page before.")


class OwnLabelIn(Input):
    """A label of your own: a sentence and examples, or the labels that it sums."""

    name: Annotated[
        str,
        AfterValidator(_in_lower_case),
        Field(max_length=100, description="In lower case; what answers say.", examples=["thanks"]),
        Patterned(NAME_PATTERN),
    ]
    sentence: Annotated[
        Text | None,
        Field(
            max_length=500, description="What it is about.", examples=["The caller gives thanks."]
        ),
    ] = None
    examples: Annotated[
        list[Text] | None,
        FailFast(),
        Field(
            min_length=LEAST_EXAMPLES,
            max_length=MOST_EXAMPLES,
            description="What is said where it holds; no two alike, here or under another label.",
        ),
    ] = None
    of: Annotated[
        list[_SourceLabel] | dict[_SourceLabel, Annotated[float, Field(gt=0, le=1)]] | None,
        Field(
            description="Of a derived label space: the source's labels that it sums, or the share "
            "of each that counts here.",
            examples=[["joy"], {"joy": 1, "surprise": 0.49}],
        ),
    ] = None


class LabelSpaceIn(Input):
    """Labels of your own, from examples, or derived from those of a trained label space."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "title": "What callers want to say",
                    "labels": [
                        {
                            "name": "thanks",
                            "sentence": "The caller gives thanks.",
                            "examples": [
                                "Thank you so much!",
                                "That helped a lot, thanks.",
                                "I'm really grateful for this.",
                            ],
                        },
                        {
                            "name": "confusion",
                            "sentence": "The caller does not understand.",
                            "examples": [
                                "Sorry, what do you mean?",
                                "I don't get it.",
                                "Now I'm confused, which form?",
                            ],
                        },
                    ],
                },
                {
                    "derived_from": "meld",
                    "labels": [
                        {"name": "upset", "of": ["anger", "disgust", "sadness", "fear"]},
                        {"name": "fine", "of": ["neutral", "joy", "surprise"]},
                    ],
                },
            ]
        }
    )

    title: Annotated[Name | None, Field(description="Left out: its name.")] = None
    derived_from: LabelSpaceName | None = Field(
        None, description="The label space whose labels are summed, for exact answers."
    )
    labels: Annotated[list[OwnLabelIn], Field(min_length=2, max_length=MOST_LABELS)]


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


class ScoredUtterance(Recognized):
    """What an answer says of an utterance of a batch."""

    id: str | None = Field(None, description="yours of it, where it had one")


class ScoredDialogue(BaseModel):
    """A dialogue of a batch, with the emotion of each utterance."""

    id: str
    utterances: list[ScoredUtterance]


class BatchOut(BaseModel):
    """One result a dialogue, in the order asked."""

    results: list[ScoredDialogue]


class JobOut(BaseModel):
    """How far a job is."""

    id: str
    state: Literal["receiving", "queued", "running", "done"]
    label_space: str
    dialogues: int | None = Field(description="how many it has; null until all are received")
    done: int = Field(description="those that have a result")
    failed: int = Field(description="those whose result is an error")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    results: str = Field(description="where they are")


class DemonstrationOut(BaseModel):
    """A labelled utterance that may be shown to the model."""

    id: str
    label_space: str
    label: str
    text: str


class DemonstrationsOut(BaseModel):
    """The demonstrations that were added, in the order sent."""

    demonstrations: list[DemonstrationOut]


class DemonstrationPage(BaseModel):
    """A part of the demonstrations, in an arbitrary order that stays the same."""

    demonstrations: list[DemonstrationOut]
    next: str | None = Field(description="`after` of the next page; null on the last one")


class LabelOut(BaseModel):
    """A label."""

    name: str
    verbalizer: str | None = Field(
        description="the word for it in prompts; null unless the model was trained on it"
    )
    unified: str | None = Field(
        description="the label of `unified` that it maps to; null where it maps to several"
    )
    of: dict[str, float] | None = Field(
        description="the share of each label of the source that it sums; null unless derived",
        examples=[{"joy": 1, "surprise": 0.49}],
    )
    sentence: str | None = Field(None, description="what it is about, where it is of your own")
    examples: list[str] | None = Field(
        None, description="of your own, where the label space was asked for by its name"
    )


class LabelSpaceOut(BaseModel):
    """The labels of one corpus, in the order prompts list them, or sums of them."""

    name: str
    title: str
    derived_from: str | None = Field(
        description="The label space whose labels it sums: an answer is read in that one, shows "
        "its demonstrations, and has sums of its probabilities; null unless derived."
    )
    available: bool = Field(
        description="whether the model was trained on it, or on its source, so answers in it"
    )
    trained: bool = Field(
        description="False: answers come from examples of your own, and from the model in other "
        "labels."
    )
    labels: list[LabelOut]


class RecognizedOut(BaseModel):
    """How many of a label's examples were taken for it while they were left out."""

    name: str
    examples: int
    recognized: int


class LeftOutOut(BaseModel):
    """What the examples were taken for, each while it was left out of what is learnt."""

    accuracy: float
    calibration_error: float
    labels: list[RecognizedOut]


class LabelSpacePut(BaseModel):
    """A label space of your own that is kept, and how well its examples tell its labels apart."""

    name: str
    title: str
    derived_from: str | None
    trained: bool
    left_out: LeftOutOut | None = Field(description="null where it is derived")


class LabelSpacesOut(BaseModel):
    """Every label space that is known, and the languages that the model reads."""

    languages: list[str] = Field(
        description="Languages of the text that the model was trained on, as ISO 639 has them; "
        "empty where that is not known. An utterance in another one is answered with `language` "
        "under `degraded`.",
        examples=[["en"]],
    )
    label_spaces: list[LabelSpaceOut]


class ProblemKindOut(BaseModel):
    """A kind of problem: what its documents have in common."""

    type: str = Field(examples=["/problems/dialogue-not-found"])
    status: int
    title: str
    cause: str = Field(description="why a request is answered so")
    remedy: str = Field(description="what to do then")


class ProblemKindsOut(BaseModel):
    """Every kind of problem."""

    problems: list[ProblemKindOut]


class Alive(BaseModel):
    """The process makes progress."""

    status: Literal["alive"]
    event_loop_lag_s: float = Field(
        description="how much later than planned the event loop goes on", examples=[0.001]
    )
    engine_silent_s: float = Field(
        description="for how long the label engine has been asked without an answer", examples=[0]
    )


class Ready(BaseModel):
    """Every part that answers need does its work."""

    status: Literal["ready"]
    checks: dict[str, str] = Field(
        examples=[{"engine": "ok", "database": "ok", "demonstrations": "ok"}]
    )
    degraded: list[str] = Field(description="Parts that do not answer and are done without.")
