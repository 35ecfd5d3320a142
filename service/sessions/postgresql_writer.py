"""Writes dialogues to PostgreSQL: a turn is one statement."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, bindparam, cast, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningInsert, ReturningUpdate

from service.sessions.database import Database
from service.sessions.erasure import Erased, ErasureStatements, Portion, portion, portions, to_find
from service.sessions.idempotency import AnswerRow, KeyTaken, keep_row
from service.sessions.progress import CutCounts, counting_utterances, part_of, progress_parameters
from service.sessions.schema import (
    POSTGRESQL,
    CompiledStatement,
    answers,
    compile_once,
    dialogue_labels,
    dialogues,
    insert_into,
    parameters_of,
    utterance_counts,
    utterances,
)
from service.sessions.tallies import counting, growth, label_parameters
from service.sessions.webhooks import ADD_WEBHOOK, WebhookRow
from service.sessions.writer import (
    GROW_DIALOGUE,
    UtteranceRow,
    create_dialogue,
    utterance_parameters,
)


class PostgresqlWriter:
    """Writes to PostgreSQL, whose connections share commits by themselves.

    An append is one statement, which is a transaction of its own: one round trip, and a dialogue
    whose row another process holds keeps no other waiting. Only one with webhooks is several.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(
        self,
        row: UtteranceRow,
        answer: AnswerRow | None = None,
        webhooks: Sequence[WebhookRow] = (),
    ) -> int | None:
        statements = _GROW if row["index"] else _CREATE
        part = part_of(row["dialogue_id"])
        values = {**row, **growth(row["index"], row["valence"]), "part": part}
        if answer is None:
            return await self._write(statements.alone, values, webhooks)
        return await self._write(statements.with_answer, {**answer, **values}, webhooks)

    async def erase_portion(
        self,
        tenant: str,
        dialogue_id: str,
        generation: int | None = None,
        number: int | None = None,
        answer: AnswerRow | None = None,
    ) -> Erased | None:
        dialogue = to_find(tenant, dialogue_id, generation, number)

        async def erase(connection: AsyncConnection) -> Erased | None:
            row = (await _execute(connection, _ERASURE.find, dialogue)).one_or_none()
            if row is None:
                return None
            (erased,) = await self._erase(connection, [portion(row._asdict())])
            if erased.whole and answer is not None:
                await keep_row(connection, answer)
            return erased

        try:
            return await self._database.transaction(erase)
        except KeyTaken:
            return None

    async def erase_before(self, moment: datetime, limit: int) -> list[Erased]:
        values = {"before": moment, "limit": limit}

        async def erase(connection: AsyncConnection) -> list[Erased]:
            rows = (await _execute(connection, _ERASURE.find_expired, values)).all()
            return await self._erase(connection, portions(row._asdict() for row in rows))

        return await self._database.transaction(erase)

    async def ping(self) -> None:
        async def lock(connection: AsyncConnection) -> None:
            # Refused where only reading is possible, and where a migration keeps the table.
            await connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            await connection.execute(text("LOCK TABLE dialogues IN ROW EXCLUSIVE MODE"))

        await self._database.transaction(lock)

    async def close(self) -> None:
        pass  # the connections are the database's

    async def _erase(self, connection: AsyncConnection, some: Iterable[Portion]) -> list[Erased]:
        counts = CutCounts()
        erased = [await self._erase_portion(connection, each, counts) for each in some]
        for values in counts.parameters():
            await _execute(connection, _ERASURE.uncount, values)
            await _execute(connection, _ERASURE.drop_count, values)
        return erased

    async def _erase_portion(
        self, connection: AsyncConnection, each: Portion, cut_counts: CutCounts
    ) -> Erased:
        counts = [
            (await _execute(connection, statement, each.begins)).rowcount
            for statement in (_ERASURE.forget, _ERASURE.cut_changes)
        ]
        last = each.is_last(*counts)
        values = each.ends(last=last)
        noted = (await _execute(connection, _ERASURE.note, values)).scalars().all()
        cut = (await _execute(connection, _ERASURE.cut, values)).mappings().all()
        cut_counts.add(each.tenant, each.dialogue_id, [{**row} for row in cut])
        await _execute(connection, _ERASURE.erase if last else _ERASURE.shorten, values)
        return each.erased(noted, last=last)

    async def _write(
        self,
        statement: CompiledStatement,
        values: Mapping[str, Any],
        webhooks: Sequence[WebhookRow],
    ) -> int | None:
        async def write(connection: AsyncConnection) -> int | None:
            version: int | None = (await _execute(connection, statement, values)).scalar()
            if version is not None:
                for webhook in webhooks:
                    await _execute(connection, _TELL, webhook)
            return version

        try:
            if webhooks:  # rules seldom fire
                return await self._database.transaction(write)
            return await self._database.run(write)
        except IntegrityError as error:
            if _ANSWERS_KEY in str(error.orig):
                return None
            raise


async def _execute(
    connection: AsyncConnection, statement: CompiledStatement, values: Mapping[str, Any]
) -> CursorResult[Any]:
    return await connection.exec_driver_sql(statement.sql, statement.bind(values))


_ERASURE = ErasureStatements.compiled_for(POSTGRESQL)
_TELL = compile_once(ADD_WEBHOOK, POSTGRESQL)
_ANSWERS_KEY = str(answers.primary_key.name)


@dataclass(frozen=True, slots=True)
class _Append:
    """One statement for all tables, without an answer and with one; both return the version."""

    alone: CompiledStatement
    with_answer: CompiledStatement


def _append(dialogue: ReturningInsert[Any] | ReturningUpdate[Any]) -> _Append:
    """The append of an utterance.

    Args:
        dialogue: writes the dialogue's row and returns its version, or writes and returns nothing.
    """
    written = dialogue.cte("written")
    parameters = utterance_parameters()
    utterance: dict[str, ColumnElement[Any]] = {
        **parameters,
        "prediction": cast(parameters["prediction"], utterances.c.prediction.type),
        "version": written.c.version,
    }
    added = insert(utterances).from_select([*utterance], select(*utterance.values()))
    answer = parameters_of(answers)
    kept = insert(answers).from_select([*answer], select(*answer.values()).select_from(written))
    label = label_parameters()
    has_label = parameters["label"].is_not(None)
    counted = counting(
        insert_into(dialogue_labels, POSTGRESQL).from_select(
            [*label], select(*label.values()).select_from(written).where(has_label)
        )
    )
    progress = progress_parameters()
    has_margin = parameters["margin"].is_not(None)
    advanced = counting_utterances(
        insert_into(utterance_counts, POSTGRESQL).from_select(
            [*progress], select(*progress.values()).select_from(written).where(has_margin)
        )
    )
    statement = select(written.c.version).add_cte(
        added.cte("added"), counted.cte("counted"), advanced.cte("advanced")
    )
    return _Append(
        alone=compile_once(statement, POSTGRESQL),
        with_answer=compile_once(statement.add_cte(kept.cte("answered")), POSTGRESQL),
    )


_CREATE = _append(create_dialogue(POSTGRESQL))
# Where it waited for the row, the statement sees the row as it is now and all others as they were:
# an utterance that was corrected meanwhile would go into the dialogue's sums with its old valence.
_read = dialogues.alias("read")
_IS_AS_READ = (
    dialogues.c.version
    == select(_read.c.version)
    .where(_read.c.tenant == bindparam("tenant"), _read.c.id == bindparam("dialogue_id"))
    .scalar_subquery()
)
_GROW = _append(GROW_DIALOGUE.where(_IS_AS_READ))
