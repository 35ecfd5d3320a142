"""Schemas of demonstrations."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, FailFast, Field

from service.api.schemas.names import Identifier, LabelSpaceName
from service.dialogue_format import Input, Text
from service.settings import Limits

_DEFAULT = Limits()


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
        description="Replaces your demonstration with this id. If omitted, it is derived from the "
        "other fields, so that the same demonstration sent twice is stored once.",
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
        description=f"With unique ids; at most {_DEFAULT.batch_utterances:,}, unless configured "
        "otherwise.",
    )


class DemonstrationListing(BaseModel):
    """Which part of the demonstrations to list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label_space: LabelSpaceName | None = Field(None, description="If omitted: all of them.")
    limit: int = Field(100, ge=1, le=1000, description="The most per page.")
    after: UUID | None = Field(None, description="`next` of the previous page.")


class DemonstrationOut(BaseModel):
    """A labelled utterance that may be shown to the model."""

    id: str
    label_space: str
    label: str
    text: str


class DemonstrationsOut(BaseModel):
    """The added demonstrations, in the order sent."""

    demonstrations: list[DemonstrationOut]


class DemonstrationPage(BaseModel):
    """A page of the demonstrations, in an arbitrary but stable order."""

    demonstrations: list[DemonstrationOut]
    next: str | None = Field(description="`after` of the next page; null on the last one")
