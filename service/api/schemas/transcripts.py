"""Schemas of transcripts that are sent as files."""

from typing import Annotated, Literal, NotRequired

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from service.api.schemas.names import Identifier, LabelSpaceName
from service.conversation.labels import UNIFIED
from service.recognition.document import RecognitionDocument
from service.transcripts.formats import Format
from service.transcripts.segments import UnknownSpeaker

MOST_UNREAD = 100
"""The most unread lines that a response describes."""

_Column = Annotated[str, Field(min_length=1, max_length=200)]


class TranscriptReading(BaseModel):
    """How to read a file of dialogues, and which labels to predict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_space: LabelSpaceName = UNIFIED
    format: Format | Literal["vtt"] | None = Field(
        None,
        alias="from",
        description="The format of the file (`vtt` is `webvtt`); if omitted, its content tells.",
    )
    name: Identifier = Field(
        "transcript", description="The id of a transcript's dialogue.", examples=["call-42"]
    )
    speaker: _Column | None = Field(None, description="The column of speakers in a table.")
    text: _Column | None = Field(None, description="The column of texts.")
    dialogue: _Column | None = Field(None, description="The column that tells dialogues apart.")
    time: _Column | None = Field(None, description="The column of the times when utterances begin.")
    unknown_speaker: UnknownSpeaker = Field(
        UnknownSpeaker.OWN,
        description='A segment without a speaker is said by one called "unknown" (`own`), or '
        "belongs to the utterance before it (`previous`).",
    )
    join_within: float | None = Field(
        None,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="Join segments of one speaker with at most this pause between them, in "
        "seconds; if omitted, none are joined.",
    )


class ScoredLineOfTranscript(RecognitionDocument):
    """An utterance of a file, with its emotion."""

    id: NotRequired[str]
    speaker: str
    role: NotRequired[str]
    start: NotRequired[Annotated[float, Field(description="in seconds")]]
    end: NotRequired[Annotated[float, Field(description="in seconds")]]
    text: str
    label: NotRequired[Annotated[str, Field(description="as in the file")]]
    description: NotRequired[str]


class ScoredTranscript(TypedDict):
    """A dialogue of a file, with the emotion of each utterance."""

    id: str
    utterances: list[ScoredLineOfTranscript]


class UnreadLine(TypedDict):
    """A line, row or cue that could not be read; it does not affect the others."""

    line: Annotated[int, Field(ge=1, description="its number in the file, from 1")]
    detail: str


class TranscriptOut(TypedDict):
    """The dialogues of a file, in its order."""

    results: list[ScoredTranscript]
    unread: Annotated[
        list[UnreadLine],
        Field(description=f"The first {MOST_UNREAD}; `Unread-Lines` says how many there are."),
    ]


class RefusedLineOfTranscript(TypedDict):
    """The line of an NDJSON response that stands for an unread line."""

    error: str
