"""What has happened to a dialogue, in the order it was written.

Every write makes another version of the dialogue, and its event carries that version: a place in
the order that any process on the database knows, also after a restart.
"""

from dataclasses import dataclass, replace

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.sessions.corrections import Correction
from service.sessions.database import Database, Rows
from service.sessions.queries import IS_WHOLE, SAID
from service.sessions.schema import changes, dialogues, utterances
from service.sessions.store import StoredUtterance
from service.sessions.versions import Version


@dataclass(frozen=True, slots=True)
class CorrectionChange:
    """What a person said that an utterance carries; None: it was taken back."""

    index: int
    correction: Correction | None


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, and the version of the dialogue that it made."""

    version: Version
    what: StoredUtterance | CorrectionChange


@dataclass(frozen=True, slots=True)
class Position:
    """How far somebody has read.

    Attributes:
        version: of the last event that was read.
        index: all utterances before it have been read; saves looking through them.
    """

    version: Version
    index: int = 0

    def past(self, event: Event) -> "Position":
        """The position once an event was read."""
        said = isinstance(event.what, StoredUtterance)
        return Position(event.version, event.what.index + 1 if said else self.index)


class Events:
    """The events of the dialogues in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, tenant: str, dialogue_id: str) -> Position | None:
        """The position before all events; None: there is no dialogue."""
        found = await self._version(tenant, dialogue_id)
        return None if found is None else Position(replace(found, number=0))

    async def after(
        self, tenant: str, dialogue_id: str, position: Position, limit: int
    ) -> list[Event] | None:
        """At most so many of the events after a position; None: the dialogue has been erased.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        # The version first: what it counts is there for those who ask later, save an erasure.
        version = await self._version(tenant, dialogue_id)
        if version is None or version.generation != position.version.generation:
            return None
        if version.number <= position.version.number:
            return []
        said = (
            select(utterances.c.version, *(utterances.c[name] for name in SAID))
            .where(
                utterances.c.tenant == tenant,
                utterances.c.dialogue_id == dialogue_id,
                utterances.c.index >= position.index,
                utterances.c.version > position.version.number,
                utterances.c.version <= version.number,
            )
            .order_by(utterances.c.index)
            .limit(limit)
        )
        changed = (
            select(
                changes.c.version,
                changes.c.index,
                changes.c.label_space,
                changes.c.label,
                changes.c.created_at,
            )
            .where(
                changes.c.tenant == tenant,
                changes.c.dialogue_id == dialogue_id,
                changes.c.version > position.version.number,
                changes.c.version <= version.number,
            )
            .order_by(changes.c.version)
            .limit(limit)
        )

        async def both(
            connection: AsyncConnection,
        ) -> tuple[Rows, Rows]:
            predictions = (await connection.execute(said)).all()
            return predictions, (await connection.execute(changed)).all()

        predictions, corrections = await self._database.run(both)
        found = [
            Event(replace(version, number=number), StoredUtterance(*fields))
            for number, *fields in predictions
        ]
        for number, index, label_space, label, created_at in corrections:
            correction = None if label is None else Correction(label_space, label, created_at)
            what = CorrectionChange(index, correction)
            found.append(Event(replace(version, number=number), what))
        return sorted(found, key=lambda event: event.version.number)[:limit]

    async def _version(self, tenant: str, dialogue_id: str) -> Version | None:
        is_the_dialogue = and_(dialogues.c.tenant == tenant, dialogues.c.id == dialogue_id)
        asked = select(dialogues.c.generation, dialogues.c.version).where(is_the_dialogue, IS_WHOLE)
        rows = await self._database.fetch(asked)
        return Version(*rows[0]) if rows else None
