"""Corrections whose demonstrations still have to be written to, or deleted from, the demonstration
store.

A delivery is noted in the transaction that stores, takes back or erases a correction. The note says
only that something changed; the process that delivers reads the correction as it is by then. So a
demonstration may be delivered twice, or late, and a crash in between costs nothing.
"""

import secrets
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import and_, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.conversation.dialogue import Demonstration
from service.conversation.neighbours import CONTEXT_LINES
from service.sessions.database import Database
from service.sessions.schema import Insert, corrections, deliveries, insert_into, utterances


@dataclass(frozen=True, slots=True)
class Pending:
    """A demonstration that may still differ from its correction.

    Attributes:
        mark: a random number, drawn again each time the delivery is noted.
    """

    tenant: str
    demonstration_id: str
    mark: int


@dataclass(frozen=True, slots=True)
class WantedDemonstration:
    """The demonstration of a correction.

    Attributes:
        before: the texts of the lines before the utterance that are its context.
        corrected_at: in UTC.
    """

    demonstration: Demonstration
    before: tuple[str, ...]
    corrected_at: datetime


_PENDING = tuple(deliveries.c[name] for name in Pending.__slots__)


class Deliveries:
    """The deliveries noted in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self) -> int:
        """The number of demonstrations that still have to be delivered."""
        rows = await self._database.fetch(select(func.count()).select_from(deliveries))
        return int(rows[0][0])

    async def pending(self, limit: int) -> list[Pending]:
        """At most `limit` of the demonstrations that still have to be delivered."""
        rows = await self._database.fetch(select(*_PENDING).limit(limit))
        return [Pending(**row._asdict()) for row in rows]

    async def unwanted(self, tenant: str) -> list[Pending]:
        """A tenant's demonstrations that have to be deleted, because their corrections are gone."""
        statement = (
            select(*_PENDING)
            .outerjoin(
                corrections,
                and_(
                    corrections.c.tenant == deliveries.c.tenant,
                    corrections.c.demonstration_id == deliveries.c.demonstration_id,
                ),
            )
            .where(deliveries.c.tenant == tenant, corrections.c.demonstration_id.is_(None))
        )
        return [Pending(**row._asdict()) for row in await self._database.fetch(statement)]

    async def wanted(self, pending: Pending) -> WantedDemonstration | None:
        """The demonstration of the current correction; None: the correction is gone."""
        statement = (
            select(
                corrections.c.label_space,
                corrections.c.label,
                corrections.c.created_at,
                utterances.c.text,
            )
            .join_from(
                corrections,
                utterances,
                and_(
                    utterances.c.tenant == corrections.c.tenant,
                    utterances.c.dialogue_id == corrections.c.dialogue_id,
                    utterances.c.index <= corrections.c.index,
                    utterances.c.index >= corrections.c.index - CONTEXT_LINES,
                ),
            )
            .where(
                corrections.c.tenant == pending.tenant,
                corrections.c.demonstration_id == pending.demonstration_id,
            )
            .order_by(utterances.c.index)
        )
        rows = await self._database.fetch(statement)
        if not rows:
            return None
        *before, corrected = rows
        return WantedDemonstration(
            Demonstration(
                pending.demonstration_id, corrected.label_space, corrected.label, corrected.text
            ),
            tuple(row.text for row in before),
            corrected.created_at,
        )

    async def delivered(self, pending: Pending) -> Pending | None:
        """Note that a demonstration is as it was wanted; what is to be delivered instead, if any.

        It may have been noted again meanwhile. Or another process has delivered it, perhaps as it
        was wanted later, and was then overtaken: it is noted anew.
        """
        is_the_delivery = and_(
            deliveries.c.tenant == pending.tenant,
            deliveries.c.demonstration_id == pending.demonstration_id,
        )
        as_marked = delete(deliveries).where(is_the_delivery, deliveries.c.mark == pending.mark)

        async def deliver(connection: AsyncConnection) -> Pending | None:
            if (await connection.execute(as_marked)).rowcount == 1:
                return None
            statement = select(deliveries.c.mark).where(is_the_delivery)
            mark = (await connection.execute(statement)).scalar_one_or_none()
            if mark is None:
                return await note(connection, pending.tenant, pending.demonstration_id)
            return Pending(pending.tenant, pending.demonstration_id, mark)

        return await self._database.run(deliver)


async def note(connection: AsyncConnection, tenant: str, demonstration_id: str) -> Pending:
    """Note that a demonstration is to be delivered."""
    pending = Pending(tenant, demonstration_id, secrets.randbits(63))
    noted = noting(insert_into(deliveries, connection.dialect))
    await connection.execute(noted, asdict(pending))
    return pending


def noting(inserted: Insert) -> Insert:
    """The INSERT of deliveries that marks those already noted anew."""
    return inserted.on_conflict_do_update(
        index_elements=deliveries.primary_key, set_={"mark": inserted.excluded.mark}
    )
