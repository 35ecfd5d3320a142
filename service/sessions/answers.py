"""What was answered to requests that carried an idempotency key: a repeated one is not done again.

An answer is kept in the transaction that does what was asked, so that a crash leaves both or none,
and of processes that do the same request at once one alone succeeds. What belongs to a dialogue is
erased with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypedDict, TypeVar

from sqlalchemy import bindparam, delete, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.errors import IdempotencyKeyReused
from service.sessions.database import answering
from service.sessions.schema import answers

Written = TypeVar("Written")


@dataclass(frozen=True, slots=True)
class Key:
    """A tenant's name for one request.

    Attributes:
        request: tells the request from others: equal ones have the same.
    """

    tenant: str
    value: str
    request: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: a status, JSON or nothing, and where what was made is."""

    status: int
    body: str = ""
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Once(Generic[Written]):
    """The key of a write, and how the write is answered."""

    key: Key
    answer: Callable[[Written], Answer]


class AlreadyAnswered(Exception):
    """The key has an answer by now: another process was asked the same, and was faster."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class AnswerRow(TypedDict):
    """An answer to be kept; `dialogue_id` is the dialogue to be erased with, if any."""

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


async def keep_answer(connection: AsyncConnection, key: Key, answer: Answer) -> bool:
    """Keep an answer in a transaction; False: the key has one already."""
    return (await connection.execute(_KEEP, answer_row(key, answer))).rowcount == 1


class Answers:
    """The kept answers in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, key: Key) -> Answer | None:
        """What the request was answered.

        Raises:
            IdempotencyKeyReused: the key has an answer to another request.
        """
        columns = (answers.c[name] for name in ("request", *Answer.__slots__))
        asked = select(*columns).where(answers.c.tenant == key.tenant, answers.c.key == key.value)
        with answering():
            async with self._engine.connect() as connection:
                row = (await connection.execute(asked)).one_or_none()
        if row is None:
            return None
        request, *answer = row
        if request != key.request:
            raise IdempotencyKeyReused(f"key {key.value!r} was sent with another request")
        return Answer(*answer)

    async def keep(self, key: Key, answer: Answer) -> None:
        """Keep the answer to a request that wrote nothing to the database.

        Raises:
            AlreadyAnswered: another process has answered it meanwhile.
            IdempotencyKeyReused: another process has answered another request with the key.
        """
        with answering():
            async with self._engine.connect() as connection:
                kept = await keep_answer(connection, key, answer)
        if not kept:
            found = await self.find(key)
            if found is not None:
                raise AlreadyAnswered(found)

    async def erase_before(self, moment: datetime, limit: int) -> int:
        """Erase at most `limit` of the answers given before a moment; how many there were."""
        oldest = (
            select(answers.c.tenant, answers.c.key)
            .where(answers.c.created_at < moment)
            .order_by(answers.c.created_at)
            .limit(limit)
        )
        erased = delete(answers).where(tuple_(answers.c.tenant, answers.c.key).in_(oldest))
        with answering():
            async with self._engine.connect() as connection:
                return (await connection.execute(erased)).rowcount


KEEP = """
INSERT INTO answers (tenant, key, request, status, body, location, created_at, dialogue_id)
VALUES (:tenant, :key, :request, :status, :body, :location, :created_at, :dialogue_id)"""

_KEEP = text(f"{KEEP} ON CONFLICT (tenant, key) DO NOTHING").bindparams(
    *(bindparam(column.name, type_=column.type) for column in answers.c)
)
