"""The events of a dialogue, in the order in which it was written to.

Every write makes another version of the dialogue, and its event carries that version: a place in
the order that any process on the database knows, also after a restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.sessions.database import Database, Rows
from service.sessions.queries import CORRECTIONS_CHANGED, UTTERANCES_WRITTEN, VERSION
from service.sessions.records import Correction, StoredUtterance, Version, utterance_of


@dataclass(frozen=True, slots=True)
class CorrectionChange:
    """An utterance's new correction; None: the correction was taken back."""

    index: int
    correction: Correction | None


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a dialogue, and the version that it made."""

    version: Version
    what: StoredUtterance | CorrectionChange


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a reader in the events of a dialogue.

    Attributes:
        version: of the last event that was read.
        index: all utterances before it have been read; saves looking through them.
    """

    version: Version
    index: int = 0

    def past(self, event: Event) -> "Position":
        """The position after an event."""
        is_utterance = isinstance(event.what, StoredUtterance)
        return Position(event.version, event.what.index + 1 if is_utterance else self.index)


class Events:
    """The events of the dialogues in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, tenant: str, dialogue_id: str) -> Position | None:
        """The position before all events; None: there is no dialogue."""
        version = await self._version(tenant, dialogue_id)
        return None if version is None else Position(replace(version, number=0))

    async def after(
        self, tenant: str, dialogue_id: str, position: Position, limit: int
    ) -> list[Event] | None:
        """At most `limit` of the events after a position; None: the dialogue has been erased.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        # The version first: what it counts is there for those who ask later, save an erasure.
        version = await self._version(tenant, dialogue_id)
        if version is None or version.generation != position.version.generation:
            return None
        if version.number <= position.version.number:
            return []
        values = {
            "tenant": tenant,
            "dialogue_id": dialogue_id,
            "after": position.version.number,
            "until": version.number,
            "limit": limit,
        }

        async def both(connection: AsyncConnection) -> tuple[Rows, Rows]:
            utterances = await connection.execute(
                UTTERANCES_WRITTEN, {**values, "first": position.index}
            )
            changes = await connection.execute(CORRECTIONS_CHANGED, values)
            return utterances.all(), changes.all()

        utterances, changes = await self._database.run(both)
        events: list[tuple[int, StoredUtterance | CorrectionChange]] = [
            *((row.version, utterance_of(row)) for row in utterances),
            *((row.version, _correction_change(row._asdict())) for row in changes),
        ]
        events.sort(key=lambda event: event[0])
        return [Event(replace(version, number=number), what) for number, what in events[:limit]]

    async def _version(self, tenant: str, dialogue_id: str) -> Version | None:
        values = {"tenant": tenant, "dialogue_id": dialogue_id}
        rows = await self._database.fetch(VERSION, values)
        return Version(**rows[0]._asdict()) if rows else None


def _correction_change(row: Mapping[str, Any]) -> CorrectionChange:
    if row["label"] is None:
        return CorrectionChange(row["index"], None)
    correction = Correction(row["label_space"], row["label"], row["created_at"])
    return CorrectionChange(row["index"], correction)
