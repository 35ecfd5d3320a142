"""Names in paths and queries: which are valid, and how the documentation describes them.

The documented patterns (ECMA-262, as in JSON Schema) express what the functions here check, whose
error messages are in words.
"""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from service.dialogue_format import Patterned
from service.dialogues.own_label_spaces import OWN_LABEL_SPACE_NAME_PATTERN

# A server replaces a path's bytes that are not UTF-8 by it: distinct ids would become equal.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Clients and proxies remove these from a path, so that such a dialogue could never be read again.
_STEPS = (".", "..")

# The same as the function below; `str.isprintable` defines what is printable.
_IDENTIFIER = r"^(?!\.{1,2}$)(?! +$)(?:[^\p{C}\p{Z}/\ufffd]| )+$"


def _identifying(value: str) -> str:
    if value in _STEPS:
        raise PydanticCustomError("identifier", "must not be `.` or `..`")
    if not value.isprintable() or "/" in value or _REPLACEMENT in value:
        raise PydanticCustomError("identifier", "must be printable characters other than /")
    if not value.strip():  # no file of dialogues may have such an id
        raise PydanticCustomError("identifier", "must not be blank")
    return value


Identifier = Annotated[
    str,
    Field(  # before the validator, so that lengths are in characters
        min_length=1,
        max_length=200,
        description="Printable characters other than `/`.",
        examples=["call-42"],
    ),
    AfterValidator(_identifying),
    Patterned(_IDENTIFIER),
]
OwnLabelSpaceName = Annotated[
    str,
    Field(
        max_length=64,
        pattern=OWN_LABEL_SPACE_NAME_PATTERN,
        description="Your own name for it: lower-case letters, digits, `-` and `_`.",
        examples=["callers"],
    ),
]
LabelSpaceName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        description="The labels to predict, in any case; `/label-spaces` lists the label spaces.",
        examples=["meld"],
    ),
]
