"""Keeps the answers to requests with an idempotency key, so that a repeated one is not done again.

An answer is kept in the transaction that carries the request out, so that a crash leaves both or
none, and of processes that carry out the same request at once only one succeeds. Of an erased
dialogue's answers only the keys are left: a late repetition does not begin the dialogue anew.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Generic, TypedDict, TypeVar

from sqlalchemy import (
    BigInteger,
    Dialect,
    and_,
    bindparam,
    delete,
    func,
    null,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.admission.shares import counted
from service.errors import DialogueErased, IdempotencyKeyReused, TooManyAnswers
from service.sessions.database import Database
from service.sessions.schema import Insert, answers, insert_into

Written = TypeVar("Written")


@dataclass(frozen=True, slots=True)
class Key:
    """A tenant's name for one request.

    Attributes:
        request: a hash of the request; a repetition has the same.
    """

    tenant: str
    value: str
    request: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, JSON or nothing, and the location of what was created."""

    status: int
    body: str = ""
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Once(Generic[Written]):
    """The key of a write, and how the write is answered."""

    key: Key
    answer: Callable[[Written], Answer]

    def row(self, written: Written, dialogue_id: str | None = None) -> "AnswerRow":
        """The answer to the write, given now.

        Args:
            dialogue_id: the dialogue with which it is erased, if any.
        """
        return answer_row(self.key, self.answer(written), dialogue_id)


class AlreadyAnswered(Exception):
    """The key has an answer by now: another process got the same request, and was faster."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class AnswerRow(TypedDict):
    """An answer to be kept; `dialogue_id` is the dialogue with which it is erased, if any."""

    tenant: str
    key: str
    request: str
    status: int
    body: str
    location: str | None
    created_at: datetime
    dialogue_id: str | None


def answer_row(key: Key, answer: Answer, dialogue_id: str | None = None) -> AnswerRow:
    """An answer given now."""
    return AnswerRow(
        tenant=key.tenant,
        key=key.value,
        request=key.request,
        status=answer.status,
        body=answer.body,
        location=answer.location,
        created_at=datetime.now(UTC),
        dialogue_id=dialogue_id,
    )


class KeyTaken(Exception):
    """The key has an answer by now: the transaction must be rolled back."""


async def keep(
    connection: AsyncConnection,
    once: Once[Written] | None,
    written: Written,
    dialogue_id: str | None = None,
) -> None:
    """Keep the answer to a request with a key, in the transaction that carries it out.

    Args:
        dialogue_id: the dialogue with which it is erased, if any.

    Raises:
        KeyTaken: the key has an answer.
    """
    if once is not None:
        await keep_row(connection, once.row(written, dialogue_id))


async def keep_row(connection: AsyncConnection, row: AnswerRow) -> None:
    """Keep an answer that is a row already.

    Raises:
        KeyTaken: the key has an answer.
    """
    if (await connection.execute(_keep(connection.dialect), row)).rowcount != 1:
        raise KeyTaken


def _keep(dialect: Dialect) -> Insert:
    return insert_into(answers, dialect).on_conflict_do_nothing(index_elements=answers.primary_key)


# The time after which a tenant's answers are counted again; until then, those kept here are added.
_COUNTED_S = 30.0
# The same for a tenant that has too many: a refusal must not cost more than what it refuses.
_COUNTED_FULL_S = 1.0


class Answers:
    """The kept answers in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: dict[str, tuple[int, float]] = {}  # by tenant, with the moment
        self._under_way: Counter[str] = Counter()  # by tenant: kept by now, or not yet

    async def find(self, key: Key) -> Answer | None:
        """The answer to a request; None: its key has none.

        Raises:
            DialogueErased: the key is of a request about a dialogue that has been erased since.
            IdempotencyKeyReused: the key has an answer to another request.
        """
        columns = (answers.c[name] for name in ("request", *Answer.__slots__))
        is_the_answer = and_(answers.c.tenant == key.tenant, answers.c.key == key.value)
        rows = await self._database.fetch(select(*columns).where(is_the_answer))
        if not rows:
            return None
        row = rows[0]
        if row.status == ERASED:
            raise DialogueErased("the dialogue that this request was about has been erased")
        if row.request != key.request:
            raise IdempotencyKeyReused(f"key {key.value!r} was used with another request")
        return Answer(row.status, row.body, row.location)

    async def raise_if_answered(self, once: Once[Any] | None) -> None:
        """Refuse a write, which failed, as a repetition if its key has an answer by now.

        Raises:
            AlreadyAnswered: the key has an answer.
            IdempotencyKeyReused: the key has an answer to another request.
        """
        answer = None if once is None else await self.find(once.key)
        if answer is not None:
            raise AlreadyAnswered(answer)

    @asynccontextmanager
    async def room(self, tenant: str, most: int) -> AsyncIterator[None]:
        """Room for one more answer, which may be kept inside the block.

        Raises:
            TooManyAnswers: the tenant has `most` already, give or take what other processes have
                kept in the last half minute.
        """
        now = monotonic()
        count, counted_at = self._counts.get(tenant, (0, -_COUNTED_S))
        if now - counted_at >= (_COUNTED_S if count < most else _COUNTED_FULL_S):
            statement = select(func.count()).select_from(answers)
            rows = await self._database.fetch(statement.where(answers.c.tenant == tenant))
            kept: int = rows[0][0]
            count, counted_at = kept + self._under_way[tenant], now
        if count >= most:
            self._counts[tenant] = (count, counted_at)
            raise TooManyAnswers(
                f"too many responses are stored for your idempotency keys (limit {most})"
            )
        self._counts[tenant] = (count + 1, counted_at)
        with counted(self._under_way, tenant):
            yield

    async def keep(self, key: Key, answer: Answer) -> None:
        """Keep the answer to a request that wrote nothing to the database.

        Raises:
            AlreadyAnswered: another process has answered it meanwhile.
            IdempotencyKeyReused: another process has answered another request with the key.
        """
        statement = _keep(self._database.engine.dialect)
        if not await self._database.change(statement, {**answer_row(key, answer)}):
            kept = await self.find(key)
            if kept is not None:
                raise AlreadyAnswered(kept)

    async def amend(self, key: Key, answer: Answer) -> None:
        """Replace the answer to a key's request, unless it has been erased."""
        statement = (
            update(answers)
            .where(
                answers.c.tenant == key.tenant,
                answers.c.key == key.value,
                answers.c.request == key.request,
            )
            .values(status=answer.status, body=answer.body, location=answer.location)
        )
        await self._database.change(statement)

    async def erase_before(self, moment: datetime, limit: int) -> int:
        """Erase at most `limit` of the answers given before a moment; returns how many."""
        oldest = (
            select(answers.c.tenant, answers.c.key)
            .where(answers.c.created_at < moment)
            .order_by(answers.c.created_at)
            .limit(limit)
        )
        statement = delete(answers).where(tuple_(answers.c.tenant, answers.c.key).in_(oldest))
        return await self._database.change(statement)


ERASED = 410
"""The status of what is left of an answer whose dialogue has been erased."""

# The request's hash goes too: whoever guesses the text could confirm the guess by it.
FORGET = (
    update(answers)
    .where(
        answers.c.tenant == bindparam("tenant"),
        answers.c.key.in_(
            select(answers.c.key)
            .where(
                answers.c.tenant == bindparam("tenant"),
                answers.c.dialogue_id == bindparam("dialogue_id"),
            )
            .limit(bindparam("limit", type_=BigInteger()))
        ),
    )
    .values(request="", status=ERASED, body="", location=null(), dialogue_id=null())
)
"""Leave of at most `limit` of a dialogue's answers only their keys."""
