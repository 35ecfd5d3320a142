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
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from service.conversation.dialogue import NAME_PATTERN, TEXT_PATTERN, fault_of_name, fault_of_text
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
        description="What is said; comes back unchanged. No control characters but tab, newline "
        f"and carriage return; {_DEFAULT.text_characters:,} characters unless the service is set "
        "otherwise.",
        examples=["We won!"],
    ),
    Patterned(TEXT_PATTERN),
]
Speaker = Annotated[
    str,
    AfterValidator(_naming),
    Field(
        min_length=1,
        description="Who says it: any name on one line, always the same for the same person; "
        f"{_DEFAULT.speaker_characters:,} characters unless the service is set otherwise.",
        examples=["Ann"],
    ),
    Patterned(NAME_PATTERN),
]
Scene = Annotated[
    str,
    AfterValidator(_readable),
    Field(
        min_length=1,
        description="What the scene looks like while it is said, in words; as long as a text may "
        "be. Comes back unchanged. The model is shown it where its template has a place for it.",
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
_Answered = Annotated[Any, Field(description="As an answer has it; it is not read.", exclude=True)]


class Input(BaseModel):
    """Part of what is sent: no stray fields, and no type is turned into another.

    A field that is not known is refused rather than passed over: it may be a known one misspelt,
    whose loss nobody would notice. Of a list only the first item that is not valid is told: a body
    may hold thousands.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Said(Input):
    """What somebody says."""

    speaker: Speaker
    text: Text
    description: Scene | None = None


class UtteranceOfDialogue(Said):
    """An utterance of a whole dialogue.

    What an answer says of it may stand there too, so that what was scored can be sent again.
    """

    id: Name | None = Field(
        None,
        description="Your own id of it, no other's in the dialogue; comes back.",
        examples=["dia0_utt0"],
    )
    label: Name | None = Field(
        None,
        description="What emotion a person says that it carries. Training and evaluation go by it; "
        "where emotions are asked for it is not read.",
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
        description="Any name on one line, such as `clean/0`; comes back.", examples=["a"]
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
                    "utterances {index} and {first} have one id; each must have its own",
                    {"index": index, "first": seen[utterance.id]},
                )
        return self


def dialogue_schema() -> dict[str, Any]:
    """The JSON schema of a dialogue, on a line or as an item of an array."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DialogueIn.model_json_schema(),
        "title": "A dialogue, on a line of its own",
    }
