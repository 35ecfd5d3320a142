"""A statement compiled once takes its values by name, whatever a driver's placeholders are."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Dialect, bindparam, insert, select, update

from service.sessions.idempotency import AnswerRow
from service.sessions.schema import (
    POSTGRESQL,
    SQLITE,
    answers,
    compile_once,
    dialogues,
    parameters_of,
    utterances,
)
from service.sessions.writer import UtteranceRow

BOTH = pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL], ids=lambda dialect: dialect.name)


@BOTH
def test_values_are_bound_by_name_in_the_placeholders_order(dialect: Dialect) -> None:
    """Names that the statement lacks are ignored."""
    statement = compile_once(
        select(dialogues.c.id).where(
            dialogues.c.tenant == bindparam("tenant"), dialogues.c.id == bindparam("dialogue_id")
        ),
        dialect,
    )

    values = statement.bind({"text": "Hello.", "dialogue_id": "call-42", "tenant": "one"})

    assert values == ("one", "call-42")


@BOTH
def test_a_parameter_without_a_value_is_an_error(dialect: Dialect) -> None:
    statement = compile_once(insert(answers).values(parameters_of(answers)), dialect)

    with pytest.raises(KeyError):
        statement.bind({"tenant": "one"})


@BOTH
def test_a_constant_of_the_statement_is_not_overridden(dialect: Dialect) -> None:
    """Also where a value has the name of its column."""
    constant = update(dialogues).where(dialogues.c.tenant == bindparam("tenant")).values(length=-7)

    assert set(compile_once(constant, dialect).bind({"tenant": "one", "length": 1})) == {-7, "one"}


def test_a_moment_is_bound_as_the_database_stores_it() -> None:
    """In UTC; SQLite stores text."""
    moment = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    statement = select(dialogues.c.id).where(dialogues.c.created_at == bindparam("moment"))

    assert compile_once(statement, SQLITE).bind({"moment": moment}) == (
        "2026-01-01 00:00:00.000000",
    )
    assert compile_once(statement, POSTGRESQL).bind({"moment": moment}) == (
        datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_the_rows_to_be_stored_name_every_column() -> None:
    """The tables say which there are; the writer adds the version, and only people correct."""
    expected = {column.name for column in utterances.c} - {"version", "corrected"}

    assert set(UtteranceRow.__annotations__) == expected | {"generation", "expected"}
    assert set(AnswerRow.__annotations__) == {column.name for column in answers.c}
