"""Stores the label spaces that tenants define."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.admission.deadline import to_the_end
from service.errors import LabelSpaceNotFound, TooManyLabelSpaces
from service.sessions.database import Database
from service.sessions.schema import label_spaces


@dataclass(frozen=True, slots=True)
class StoredLabelSpace:
    """A label space as it is stored.

    Attributes:
        mark: a random text, drawn again each time the label space is stored.
        definition: JSON, as it was sent.
        fitted_for: the model with which its examples were fitted; None: it has none.
        fitted: JSON, the classifier fitted to them.
        created_at: the time when it was stored, in UTC.
    """

    name: str
    mark: str
    definition: str
    fitted_for: str | None
    fitted: str | None
    created_at: datetime


_COLUMNS = tuple(label_spaces.c[name] for name in StoredLabelSpace.__slots__)


class StoredLabelSpaces:
    """The label spaces in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self,
        tenant: str,
        name: str,
        definition: str,
        fitted_for: str | None,
        fitted: str | None,
        *,
        most: int,
    ) -> StoredLabelSpace:
        """Store a label space in place of the one with this name, if there is one.

        Args:
            most: the most label spaces that a tenant may have.

        Raises:
            TooManyLabelSpaces: it would be one more than the tenant may have.
        """
        mark, now = secrets.token_hex(16), datetime.now(UTC)
        stored = StoredLabelSpace(name, mark, definition, fitted_for, fitted, now)
        values = {each: getattr(stored, each) for each in StoredLabelSpace.__slots__}

        async def put(connection: AsyncConnection) -> bool:
            if connection.dialect.name == "postgresql":  # SQLite's transaction is the lock
                lock = func.pg_advisory_xact_lock(func.hashtext(f"label spaces of {tenant}"))
                await connection.execute(select(lock))
            replace = update(label_spaces).where(_is(tenant, name)).values(**values)
            if (await connection.execute(replace)).rowcount:
                return True
            count = select(func.count()).select_from(label_spaces)
            count = count.where(label_spaces.c.tenant == tenant)
            if (await connection.execute(count)).scalar_one() >= most:
                raise too_many_label_spaces(most)
            await connection.execute(insert(label_spaces).values(tenant=tenant, **values))
            return False

        async def put_whole() -> None:
            async with self._database.erasing():  # of what was there before
                await self._database.transaction(put)

        with to_the_end():
            await self._database.whole(put_whole())
        return stored

    async def fit_again(
        self, tenant: str, stored: StoredLabelSpace, fitted_for: str, fitted: str
    ) -> None:
        """Store what another model makes of the examples, unless they have been replaced."""
        statement = update(label_spaces).where(
            _is(tenant, stored.name), label_spaces.c.mark == stored.mark
        )
        await self._database.change(statement.values(fitted_for=fitted_for, fitted=fitted))

    async def mark(self, tenant: str, name: str) -> str | None:
        """The mark of a label space; None: the tenant has none of this name."""
        rows = await self._database.fetch(select(label_spaces.c.mark).where(_is(tenant, name)))
        return rows[0].mark if rows else None

    async def find(self, tenant: str, name: str) -> StoredLabelSpace | None:
        """A tenant's label space; None: it has none of this name."""
        rows = await self._database.fetch(select(*_COLUMNS).where(_is(tenant, name)))
        return StoredLabelSpace(**rows[0]._asdict()) if rows else None

    async def names(self, tenant: str) -> list[str]:
        """The names of a tenant's label spaces, in order."""
        statement = select(label_spaces.c.name).where(label_spaces.c.tenant == tenant)
        rows = await self._database.fetch(statement.order_by(label_spaces.c.name))
        return [row.name for row in rows]

    async def delete(self, tenant: str, name: str) -> None:
        """Erase a label space with its examples and what was made of them.

        Raises:
            LabelSpaceNotFound: the tenant has none of this name.
        """

        async def erase() -> int:
            async with self._database.erasing():
                return await self._database.change(delete(label_spaces).where(_is(tenant, name)))

        with to_the_end():
            erased = await self._database.whole(erase())
        if not erased:
            raise LabelSpaceNotFound(f"you have no label space of your own with the name {name!r}")


def too_many_label_spaces(most: int) -> TooManyLabelSpaces:
    """The error for a tenant that has reached the limit."""
    return TooManyLabelSpaces(f"too many label spaces of your own (limit {most})")


def _is(tenant: str, name: str) -> Any:
    return and_(label_spaces.c.tenant == tenant, label_spaces.c.name == name)
