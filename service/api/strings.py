"""The kinds of text that requests hold: what is taken, and how the documentation says it.

A pattern says in the document (ECMA-262, as JSON Schema has it) what a function here checks, whose
refusal is in words.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from service.settings import Limits

# Tab, newline and carriage return are text. C1 is let through: it is common in text that once was
# read in the wrong encoding.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # is no character: no encoding holds it
_LINE_BREAK = re.compile(r"[\n\r\x85\u2028\u2029]")

# What a server puts in the place of a path's bytes that are not UTF-8: ids would be mixed up.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# Clients and proxies take them out of a path, so that nobody could read such a dialogue again.
_STEPS = (".", "..")

# As the functions below have it: what is blank is as Python's `str.strip` takes it, and what is not
# printable as its `str.isprintable`.
_UNREADABLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_BLANK = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_BREAKING = r"\n\r\x85\u2028\u2029"

_TEXT = f"^[^{_UNREADABLE}]*[^{_UNREADABLE}{_BLANK}][^{_UNREADABLE}]*$"
_SPEAKER = f"^[^{_UNREADABLE}{_BREAKING}]*[^{_UNREADABLE}{_BLANK}][^{_UNREADABLE}{_BREAKING}]*$"
_IDENTIFIER = r"^(?!\.{1,2}$)(?:[^\p{C}\p{Z}/\ufffd]| )+$"

_DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Patterned:
    """Has the documentation say by a pattern what is checked elsewhere."""

    pattern: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}


def _readable(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    if _CONTROL.search(value):
        raise PydanticCustomError("control_character", "must not hold control characters")
    if _SURROGATE.search(value):
        raise PydanticCustomError("surrogate", "must not hold lone surrogates")
    return value


def _on_one_line(value: str) -> str:
    if _LINE_BREAK.search(value):
        raise PydanticCustomError("line_break", "must be on one line")
    return value


def _identifying(value: str) -> str:
    if value in _STEPS:
        raise PydanticCustomError("identifier", "must not be a step of a path")
    if not value.isprintable() or "/" in value or _REPLACEMENT in value:
        raise PydanticCustomError("identifier", "must be printable characters other than /")
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
    Patterned(_TEXT),
]
Speaker = Annotated[
    str,
    AfterValidator(_readable),
    AfterValidator(_on_one_line),
    Field(
        min_length=1,
        description="Who says it: any name on one line, always the same for the same person; "
        f"{_DEFAULT.speaker_characters:,} characters unless the service is set otherwise.",
        examples=["Ann"],
    ),
    Patterned(_SPEAKER),
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
    Patterned(_TEXT),
]
Identifier = Annotated[
    str,
    AfterValidator(_identifying),
    Field(
        min_length=1,
        max_length=200,
        description="Printable characters other than `/`.",
        examples=["call-42"],
    ),
    Patterned(_IDENTIFIER),
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
