"""Stored answers name the demonstrations that were shown, without their texts."""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_ROWS = 500  # in memory at once


def upgrade() -> None:
    _rewrite("utterances", ("tenant", "dialogue_id", "index"), "prediction", _of_a_document)
    _rewrite("job_results", ("job_id", "number"), "results", _of_lines)
    _rewrite("answers", ("tenant", "key"), "body", _of_a_document)


def _rewrite(name: str, key: tuple[str, ...], column: str, strip: Callable[[str], str]) -> None:
    is_json = name == "utterances"
    table = sa.table(name, *(sa.column(each) for each in (*key, column)))
    # As text, so that numbers stay as they are written.
    content = sa.cast(table.c[column], sa.Text) if is_json else table.c[column]
    identity = sa.tuple_(*(table.c[each] for each in key))
    columns = [table.c[each] for each in key]
    last: tuple[Any, ...] | None = None
    connection = op.get_bind()
    while True:
        asked = sa.select(*columns, content).order_by(*columns).limit(_ROWS)
        if last is not None:
            asked = asked.where(identity > last)
        rows = connection.execute(asked).all()
        if not rows:
            return
        for *found, text in rows:
            new = strip(text) if '"demonstrations"' in text else text
            if new != text:
                written = sa.literal(new, sa.Text)  # as JSON it would be encoded once more
                value = sa.cast(written, sa.JSON) if is_json and _is_postgresql() else written
                this = [c == each for c, each in zip(columns, found, strict=True)]
                connection.execute(sa.update(table).where(*this).values({column: value}))
        last = tuple(rows[-1][:-1])


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


def _of_a_document(text: str) -> str:
    return json.dumps(_stripped(json.loads(text)))


def _of_lines(text: str) -> str:
    # Not splitlines: a text may hold what Unicode calls a line break.
    return "".join(f"{_of_a_document(line)}\n" for line in text.split("\n") if line)


def _stripped(found: Any) -> Any:
    if isinstance(found, list):
        return [_stripped(each) for each in found]
    if not isinstance(found, dict):
        return found
    return {
        name: [{k: v for k, v in each.items() if k != "text"} for each in value]
        if name == "demonstrations"
        else _stripped(value)
        for name, value in found.items()
    }
