"""Which strings a request may hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.api.schemas import Identifier, Scene, Speaker, Text

KINDS = pytest.mark.parametrize(
    "kind",
    [TypeAdapter(Text), TypeAdapter(Scene), TypeAdapter(Speaker), TypeAdapter(Identifier)],
    ids=["text", "scene", "speaker", "identifier"],
)

# Lone surrogates among them, which hypothesis leaves out unless asked for.
STRINGS = st.text(st.characters(codec=None, categories=None), max_size=20)


@KINDS
@settings(max_examples=200, deadline=None)
@given(value=STRINGS)
def test_what_is_taken_is_taken_as_it_is_and_every_database_holds_it(
    kind: TypeAdapter[str], value: str
) -> None:
    """No NUL, no lone surrogate; nothing is changed."""
    try:
        taken = kind.validate_python(value)
    except ValidationError:
        return

    assert taken == value
    assert "\0" not in taken
    assert taken.encode().decode() == taken


@KINDS
@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", "\ud83c\udf89", "a\0b", ""])
def test_a_string_that_no_database_holds_is_refused(kind: TypeAdapter[str], value: str) -> None:
    """Wherever it stands."""
    with pytest.raises(ValidationError):
        kind.validate_python(value)
