"""Schemas of what people check, and of what they have corrected."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from service.api.schemas.dialogues import TimedUtterance
from service.api.schemas.names import LabelSpaceName
from service.api.schemas.summaries import Cursor, Moment
from service.conversation.labels import UNIFIED
from service.sessions.reviews import ReviewOrder


class ReviewListing(BaseModel):
    """Which utterances to list, and in which order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_space: LabelSpaceName = Field(
        UNIFIED, description="That of the answers, in any case.", examples=["meld"]
    )
    sort: ReviewOrder = Field(
        ReviewOrder.MARGIN,
        description="`margin`: the least certain first; `newest`: the last stored first.",
    )
    corrected: bool = Field(
        False, description="Those that have a person's label, instead of those that have none."
    )
    limit: int = Field(50, ge=1, le=200, description="The most per page.")
    cursor: Cursor | None = Field(None, description="The `next` of the previous page.")


class CorrectionsAsked(BaseModel):
    """Which corrections to export."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_space: LabelSpaceName = Field(
        UNIFIED, description="That of the corrections, in any case.", examples=["meld"]
    )
    updated_since: Moment | None = Field(
        None, description="Only dialogues in which one of them was made then or later."
    )


class ReviewedUtterance(TimedUtterance):
    """An utterance in a list across dialogues."""

    margin: Annotated[
        float,
        Field(description="the probability of its label minus that of the next one, 0 to 1"),
    ]


class ReviewProgress(TypedDict):
    """How far people are with a label space."""

    utterances: Annotated[int, Field(description="how many were answered in the label space")]
    corrected: Annotated[int, Field(description="how many of them have a person's label")]


class UtterancePage(TypedDict):
    """A page of a list of utterances."""

    utterances: list[ReviewedUtterance]
    next: Annotated[
        str | None, Field(description="the `cursor` of the next page; null on the last one")
    ]
    progress: ReviewProgress
