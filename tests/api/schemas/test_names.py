"""Which strings a request may hold."""

import unicodedata

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.api.schemas.names import Identifier
from service.dialogue_format import Name, Scene, Speaker, Text

KINDS = pytest.mark.parametrize(
    "kind",
    [TypeAdapter(kind) for kind in (Text, Scene, Speaker, Name, Identifier)],
    ids=["text", "scene", "speaker", "name", "identifier"],
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


@settings(max_examples=200, deadline=None)
@given(value=STRINGS | st.sampled_from([" ", "   ", " a ", "."]))
def test_what_names_a_stored_dialogue_names_one_in_a_file(value: str) -> None:
    """So that every export can be read again."""
    if is_taken(TypeAdapter(Identifier), value):
        assert is_taken(TypeAdapter(Name), value)


KNOWN = [chr(n) for n in range(0x10000) if unicodedata.category(chr(n)) not in ("Cn", "Cs")]


def is_taken(kind: TypeAdapter[str], value: str) -> bool:
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True


@KINDS
@pytest.mark.parametrize("surroundings", [("", ""), ("a", ""), ("", "a"), ("a", "a")])
def test_the_documented_pattern_takes_what_the_service_takes(
    kind: TypeAdapter[str], surroundings: tuple[str, str]
) -> None:
    """Character by character; Unicode's later ones are not known to Python."""
    before, after = surroundings
    document = jsonschema_rs.validator_for(kind.json_schema())
    values = [before + character + after for character in KNOWN]
    taken = [is_taken(kind, value) for value in values]

    assert any(taken)
    assert [v for v, t in zip(values, taken, strict=True) if document.is_valid(v) != t] == []


@pytest.mark.parametrize("value", [".", "..", "...", ".a", "a/b", "a b", " ", "a\n", "\U0001f389"])
def test_the_pattern_of_an_id_knows_the_steps_of_a_path(value: str) -> None:
    """As the service does."""
    kind = TypeAdapter[str](Identifier)
    document = jsonschema_rs.validator_for(kind.json_schema())

    assert document.is_valid(value) == is_taken(kind, value)


@pytest.mark.parametrize(("kind", "most"), [(Name, 500), (Identifier, 200)])
def test_lengths_are_told_in_characters(kind: type[str], most: int) -> None:
    """Rather than in items, as of a list."""
    taken = TypeAdapter(kind)

    assert taken.validate_python("a" * most)
    with pytest.raises(ValidationError, match=f"at most {most} characters"):
        taken.validate_python("a" * (most + 1))
