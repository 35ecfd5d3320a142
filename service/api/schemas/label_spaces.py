"""Schemas of label spaces."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field
from pydantic_core import PydanticCustomError

from service.api.schemas.names import LabelSpaceName
from service.conversation.dialogue import NAME_PATTERN, fault_of_name
from service.dialogue_format import Input, Name, Patterned, Text

# In a tenant's own label space; a limit because the model reads each example before the response.
MOST_LABELS = 20

LEAST_EXAMPLES, MOST_EXAMPLES, MOST_EXAMPLES_IN_ALL = 3, 50, 300
_SourceLabel = Annotated[str, Field(max_length=100)]


def _in_lower_case(value: str) -> str:
    if (fault := fault_of_name(value)) is not None:
        raise PydanticCustomError("name", fault)
    if value != value.casefold() or not value.strip():
        raise PydanticCustomError("label", "must be in lower case")
    if value != unicodedata.normalize("NFC", value.strip()):
        raise PydanticCustomError(
            "label", "must be in the Unicode form NFC, without surrounding spaces"
        )
    return value


class OwnLabelIn(Input):
    """A label of your own: a sentence and examples, or the labels that it sums."""

    name: Annotated[
        str,
        AfterValidator(_in_lower_case),
        Field(max_length=100, description="In lower case, as in results.", examples=["thanks"]),
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
            description="Utterances with this label; each may appear only once, here or under "
            "another label.",
        ),
    ] = None
    of: Annotated[
        list[_SourceLabel] | dict[_SourceLabel, Annotated[float, Field(gt=0, le=1)]] | None,
        Field(
            description="In a derived label space: the source's labels that it sums, or the share "
            "of each that counts towards it.",
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

    title: Annotated[Name | None, Field(description="If omitted: its name.")] = None
    derived_from: LabelSpaceName | None = Field(
        None, description="The label space whose labels are summed, for exact results."
    )
    labels: Annotated[list[OwnLabelIn], Field(min_length=2, max_length=MOST_LABELS)]


class LabelOut(BaseModel):
    """A label."""

    name: str
    verbalizer: str | None = Field(
        description="its word in prompts; null unless the model was trained on it"
    )
    unified: str | None = Field(
        description="the label of `unified` that it maps to; null if it maps to several"
    )
    of: dict[str, float] | None = Field(
        description="the share of each label of the source that it sums; null unless derived",
        examples=[{"joy": 1, "surprise": 0.49}],
    )
    sentence: str | None = Field(None, description="what it is about, if it is your own")
    examples: list[str] | None = Field(
        None,
        description="utterances with this label, if it is your own and you requested the "
        "label space by name",
    )


class LabelSpaceOut(BaseModel):
    """The labels of one corpus, in the order prompts list them, or sums of them."""

    name: str
    title: str
    derived_from: str | None = Field(
        description="The label space whose labels it sums: the model predicts in that one, with "
        "its demonstrations, and the probabilities are summed; null unless derived."
    )
    available: bool = Field(
        description="whether predictions can use it: the model was trained on it or on its source"
    )
    trained: bool = Field(
        description="False: predictions come from your own examples, and from the model in other "
        "labels."
    )
    labels: list[LabelOut]


class RecognizedOut(BaseModel):
    """How many of a label's examples were recognized while left out."""

    name: str
    examples: int
    recognized: int


class LeftOutOut(BaseModel):
    """How well the examples are recognized, each left out of the fit in turn."""

    accuracy: float
    calibration_error: float
    labels: list[RecognizedOut]


class LabelSpacePut(BaseModel):
    """A stored label space of your own, and how well its examples tell its labels apart."""

    name: str
    title: str
    derived_from: str | None
    trained: bool
    left_out: LeftOutOut | None = Field(description="null if it is derived")


class LabelSpacesOut(BaseModel):
    """The known label spaces, and the languages that the model reads."""

    languages: list[str] = Field(
        description="Languages of the text that the model was trained on, as ISO 639 codes; empty "
        "if unknown. The result of an utterance in another one has `language` under `degraded`.",
        examples=[["en"]],
    )
    label_spaces: list[LabelSpaceOut]
