"""Webhooks: matches of rules, stored in the commit of the utterance that made them.

The process that claims a webhook makes one attempt to deliver it. Until `due_at`, which it sets,
no other process does; after that, whether or not this one has died, the webhook is free again. So
each is delivered at least once, and a process that dies costs a wait.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypedDict
from uuid import uuid4

from sqlalchemy import Insert, Select, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.sessions.database import Database
from service.sessions.queries import IS_WHOLE
from service.sessions.schema import dialogues, utterances, webhooks

# No webhook is due so much later than now: the clock has been set back since.
_NEVER_DUE = timedelta(days=2)

NO_ENDPOINT = "the rules file has no such endpoint"
"""Why a webhook is given up that has never failed."""


class WebhookResult(StrEnum):
    """Why no further attempt follows."""

    DELIVERED = "delivered"
    GONE = "gone"
    GAVE_UP = "gave_up"


class WebhookRow(TypedDict):
    """A webhook to be stored; `index` is of its utterance, `body` is JSON."""

    id: str
    tenant: str
    dialogue_id: str
    index: int
    rule: str
    endpoint: str
    body: str
    created_at: datetime


def new_webhook_id() -> str:
    """A random id without a full stop."""
    return f"msg_{uuid4().hex}"


ADD_WEBHOOK: Insert = insert(webhooks).values(
    **{name: bindparam(name, type_=webhooks.c[name].type) for name in WebhookRow.__annotations__},
    due_at=bindparam("created_at", type_=webhooks.c.created_at.type),
    attempts=0,
)
"""Stores a webhook whose utterance is stored in the same transaction."""


@dataclass(frozen=True, slots=True)
class ClaimedWebhook:
    """A webhook that a process may make an attempt to deliver.

    Attributes:
        attempts: that failed before.
        owner: a random text, drawn again each time the webhook is claimed.
    """

    id: str
    rule: str
    endpoint: str
    body: str
    created_at: datetime
    attempts: int
    owner: str


@dataclass(frozen=True, slots=True)
class PendingWebhooks:
    """The number of webhooks to be delivered, and when the oldest was stored; None: none is."""

    count: int
    oldest: datetime | None

    def oldest_s(self, now: datetime) -> float:
        """The seconds since the oldest was stored; 0: there is none."""
        return 0.0 if self.oldest is None else max(0.0, (now - self.oldest).total_seconds())


@dataclass(frozen=True, slots=True)
class StoredReading:
    """What is read of a stored utterance to evaluate rules."""

    index: int
    speaker: str
    role: str | None
    label_space: str
    prediction: dict[str, Any]


_CLAIMED = tuple(webhooks.c[name] for name in ClaimedWebhook.__slots__ if name != "owner")
_READING = tuple(utterances.c[name] for name in StoredReading.__slots__)
_IS_PENDING = webhooks.c.finished_at.is_(None)


class Webhooks:
    """The webhooks in one database; every method raises `DatabaseUnavailable`.

    `now` is the current moment, by the caller's clock.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def readings(
        self,
        tenant: str,
        dialogue_id: str,
        before: int,
        label_spaces: Collection[str],
        speaker: str | None,
        role: str | None,
        limit: int,
    ) -> list[StoredReading]:
        """The last utterances before an index that were answered in some label spaces, in order.

        Args:
            speaker, role: of the utterances; None: any.
            limit: how many at most.
        """
        statement = (
            select(*_READING)
            .where(
                utterances.c.tenant == tenant,
                utterances.c.dialogue_id == dialogue_id,
                utterances.c.index < before,
                utterances.c.label_space.in_(label_spaces),
            )
            .order_by(utterances.c.index.desc())
            .limit(limit)
        )
        if speaker is not None:
            statement = statement.where(utterances.c.speaker == speaker)
        if role is not None:
            statement = statement.where(utterances.c.role == role)
        rows = await self._database.fetch(statement)
        return [StoredReading(**row._asdict()) for row in reversed(rows)]

    async def due_endpoints(self, now: datetime) -> list[str]:
        """The endpoints to which a webhook may be sent."""
        statement = select(webhooks.c.endpoint).where(_is_due(now)).distinct()
        return [row.endpoint for row in await self._database.fetch(statement)]

    async def claim(
        self, endpoint: str, now: datetime, lease_s: float, most: int
    ) -> list[ClaimedWebhook]:
        """Claim at most `most` webhooks of an endpoint for `lease_s` seconds; the oldest first."""
        if not await self._database.fetch(_due(endpoint, now, 1)):  # which keeps no writer waiting
            return []

        async def claim(connection: AsyncConnection) -> list[ClaimedWebhook]:
            due = _due(endpoint, now, most).with_for_update(skip_locked=True, of=webhooks)
            owner = secrets.token_hex(8)
            rows = (await connection.execute(due)).all()
            claimed = [ClaimedWebhook(**row._asdict(), owner=owner) for row in rows]
            await connection.execute(
                update(webhooks)
                .where(webhooks.c.id.in_([each.id for each in claimed]))
                .values(owner=owner, due_at=now + timedelta(seconds=lease_s))
            )
            return claimed

        return await self._database.transaction(claim)

    async def finish(
        self, claimed: ClaimedWebhook, now: datetime, result: WebhookResult, failure: str | None
    ) -> bool:
        """Note that no further attempt follows; False: another process has it, or it is erased.

        Args:
            failure: why the last attempt failed; None: it did not.
        """
        failed = 0 if failure is None else 1
        return await self._change(
            claimed,
            finished_at=now,
            result=result,
            failure=failure,
            attempts=webhooks.c.attempts + failed,
        )

    async def retry(self, claimed: ClaimedWebhook, due_at: datetime, failure: str) -> bool:
        """Note that an attempt failed, and when the next may begin; False: as `finish`."""
        return await self._change(
            claimed, due_at=due_at, failure=failure, attempts=webhooks.c.attempts + 1, owner=None
        )

    async def release(self, claimed: ClaimedWebhook, now: datetime) -> None:
        """Leave a webhook to others."""
        await self._change(claimed, due_at=now, owner=None)

    async def give_up(
        self, now: datetime, before: datetime, endpoints: Collection[str]
    ) -> list[ClaimedWebhook]:
        """Note that no further attempt follows where there is no endpoint any more.

        Args:
            before: only webhooks stored before this moment.
            endpoints: those that there are.
        """
        statement = (
            update(webhooks)
            .where(
                _IS_PENDING,
                webhooks.c.created_at < before,
                webhooks.c.endpoint.not_in(endpoints),
            )
            .values(
                finished_at=now,
                result=WebhookResult.GAVE_UP,
                failure=NO_ENDPOINT,
            )
            .returning(*_CLAIMED)
        )

        async def give_up(connection: AsyncConnection) -> list[ClaimedWebhook]:
            rows = (await connection.execute(statement)).all()
            return [ClaimedWebhook(**row._asdict(), owner="") for row in rows]

        return await self._database.transaction(give_up)

    async def erase_before(self, moment: datetime, limit: int) -> int:
        """Erase at most `limit` of the webhooks that were finished before a moment."""
        old = select(webhooks.c.id).where(webhooks.c.finished_at < moment).limit(limit)
        return await self._database.change(delete(webhooks).where(webhooks.c.id.in_(old)))

    async def pending(self) -> PendingWebhooks:
        """Those that are to be delivered, of all tenants."""
        statement = select(func.count(), func.min(webhooks.c.created_at)).where(_IS_PENDING)
        row = (await self._database.fetch(statement))[0]
        return PendingWebhooks(row[0], row[1])

    async def _change(self, claimed: ClaimedWebhook, **values: Any) -> bool:
        is_held = and_(webhooks.c.id == claimed.id, webhooks.c.owner == claimed.owner, _IS_PENDING)
        return await self._database.change(update(webhooks).where(is_held).values(**values)) == 1


def _is_due(now: datetime) -> Any:
    due_at = webhooks.c.due_at
    return and_(_IS_PENDING, or_(due_at <= now, due_at > now + _NEVER_DUE))


def _due(endpoint: str, now: datetime, most: int) -> Select[Any]:
    """The webhooks of an endpoint that are due; none of a dialogue whose erasure has begun."""
    return (
        select(*_CLAIMED)
        .join_from(
            webhooks,
            dialogues,
            and_(
                dialogues.c.tenant == webhooks.c.tenant,
                dialogues.c.id == webhooks.c.dialogue_id,
            ),
        )
        .where(webhooks.c.endpoint == endpoint, _is_due(now), IS_WHOLE)
        .order_by(webhooks.c.due_at)
        .limit(most)
    )
