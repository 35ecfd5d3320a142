"""Names in paths and queries: which are valid, and how the documentation describes them.

A pattern says in the document (ECMA-262, as JSON Schema has it) what a function here checks, whose
refusal is in words.
"""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from service.dialogue_format import Patterned
from service.dialogues.own_label_spaces import NAME_PATTERN

# What a server puts in the place of a path's bytes that are not UTF-8: ids would be mixed up.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Clients and proxies take them out of a path, so that nobody could read such a dialogue again.
_STEPS = (".", "..")

# As the function below has it: what is not printable is as Python's `str.isprintable` takes it.
_IDENTIFIER = r"^(?!\.{1,2}$)(?:[^\p{C}\p{Z}/\ufffd]| )+$"


def _identifying(value: str) -> str:
    if value in _STEPS:
        raise PydanticCustomError("identifier", "must not be a step of a path")
    if not value.isprintable() or "/" in value or _REPLACEMENT in value:
        raise PydanticCustomError("identifier", "must be printable characters other than /")
    return value


Identifier = Annotated[
    str,
    Field(  # before the other, so that lengths are of characters
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
        pattern=NAME_PATTERN,
        description="A name of your own: small letters, digits, `-` and `_`.",
        examples=["callers"],
    ),
]
LabelSpaceName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        description="Which labels to answer with, in any case; `/label-spaces` lists them.",
        examples=["meld"],
    ),
]
