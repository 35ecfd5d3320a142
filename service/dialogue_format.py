"""The interchange format of dialogues for commands, batches and jobs, as pydantic models.

`docs/dialogues.schema.json` is generated from it (`instructerc schema`). Lengths that are settings
of the service are checked in `service.api.limits`; files have no such limits.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from service.conversation.dialogue import (
    LATEST,
    NAME_PATTERN,
    ROLE_CHARACTERS,
    TEXT_PATTERN,
    fault_of_name,
    fault_of_text,
)
from service.settings import Limits

_DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Patterned:
    """Adds a pattern to the schema for a check that a validator makes."""

    pattern: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}


def _readable(value: str) -> str:
    if (fault := fault_of_text(value)) is not None:
        raise PydanticCustomError("text", fault)
    return value


def _naming(value: str) -> str:
    if (fault := fault_of_name(value)) is not None:
        raise PydanticCustomError("name", fault)
    return value


Text = Annotated[
    str,
    AfterValidator(_readable),
    Field(
        min_length=1,
        description="What is said; returned unchanged. No control characters other than tab, "
        f"newline and carriage return; at most {_DEFAULT.text_characters:,} characters, unless "
        "configured otherwise.",
        examples=["We won!"],
    ),
    Patterned(TEXT_PATTERN),
]
Speaker = Annotated[
    str,
    AfterValidator(_naming),
    Field(
        min_length=1,
        description="Who says it: any name on one line, always the same for the same person; at "
        f"most {_DEFAULT.speaker_characters:,} characters, unless configured otherwise.",
        examples=["Ann"],
    ),
    Patterned(NAME_PATTERN),
]
Scene = Annotated[
    str,
    AfterValidator(_readable),
    Field(
        min_length=1,
        description="What the scene looks like at this moment, in words; at most as long as a "
        "text. Returned unchanged. The model reads it if its template has a place for it.",
        examples=["She jumps up and hugs him."],
    ),
    Patterned(TEXT_PATTERN),
]
Name = Annotated[
    str,
    Field(max_length=500),  # before the validator, so that it counts characters
    AfterValidator(_naming),
    Field(min_length=1),
    Patterned(NAME_PATTERN),
]
Seconds = Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)]
Role = Annotated[
    str,
    Field(max_length=ROLE_CHARACTERS),
    AfterValidator(_naming),
    Field(min_length=1),
    Patterned(NAME_PATTERN),
]
_Answered = Annotated[
    Any, Field(description="Ignored; accepted so that an answer can be sent again.", exclude=True)
]


class Input(BaseModel):
    """Part of a request or a file: unknown fields are refused, and types are not converted.

    An unknown field may be a misspelt one, whose loss nobody would notice. Of a list only the first
    invalid item is reported, because a body may contain thousands.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Said(Input):
    """An utterance, without its place in a dialogue."""

    speaker: Speaker
    text: Text
    description: Scene | None = None
    start: Seconds | None = Field(
        None,
        description="When it begins, in seconds from the beginning of the dialogue. Predictions "
        "ignore it.",
        examples=[12.5],
    )
    end: Seconds | None = Field(
        None,
        description="When it ends, in seconds, as `start`; not before it.",
        examples=[14.0],
    )
    role: Role | None = Field(
        None,
        description="The speaker's part in the dialogue, such as `agent` or `customer`. "
        "Predictions ignore it.",
        examples=["customer"],
    )

    @field_validator("end")
    @classmethod
    def _is_not_before_start(cls, end: float | None, info: ValidationInfo) -> float | None:
        start = info.data.get("start")  # missing if it is invalid itself
        if start is not None and end is not None and end < start:
            raise PydanticCustomError("end_before_start", "must not be before `start`")
        return end


class UtteranceOfDialogue(Said):
    """An utterance of a whole dialogue.

    It may contain the fields of an answer, so that a scored dialogue can be sent again.
    """

    id: Name | None = Field(
        None,
        description="Your own id of the utterance, unique in the dialogue; returned unchanged.",
        examples=["dia0_utt0"],
    )
    label: Name | None = Field(
        None,
        description="The emotion that a person assigned. Training and evaluation use it; "
        "predictions ignore it.",
        examples=["joy"],
    )
    index: _Answered = None
    emotion: _Answered = None
    model_alone: _Answered = None
    demonstrations: _Answered = None
    model: _Answered = None
    degraded: _Answered = None
    truncated: _Answered = None


class DialogueIn(Input):
    """A whole dialogue, its utterances in the order they were spoken."""

    id: Name = Field(
        description="Any name on one line, such as `clean/0`; returned unchanged.", examples=["a"]
    )
    utterances: Annotated[list[UtteranceOfDialogue], FailFast()]
    line: _Answered = None
    error: _Answered = None

    @model_validator(mode="after")
    def _tells_utterances_apart(self) -> Self:
        seen: dict[str, int] = {}
        for index, utterance in enumerate(self.utterances):
            if utterance.id is not None and seen.setdefault(utterance.id, index) != index:
                raise PydanticCustomError(
                    "repeated_id",
                    "utterances {index} and {first} have the same id; each must have its own",
                    {"index": index, "first": seen[utterance.id]},
                )
        return self


def dialogue_schema() -> dict[str, Any]:
    """The JSON schema of a dialogue on a line or in an array."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DialogueIn.model_json_schema(),
        "title": "A dialogue on a line of its own",
    }
