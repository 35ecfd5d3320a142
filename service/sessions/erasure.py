"""The statements that erase dialogues, for both databases.

With a dialogue go its utterances, predictions, corrections and kept answers, by the tables' own
rules. The demonstrations made of its corrections lie elsewhere: each is noted for delivery in the
same transaction, and whoever delivers finds no correction any more and deletes the demonstration.
"""

import secrets
from dataclasses import dataclass
from typing import Any

# Locks what it finds where the database has rows to lock.
FIND = """
SELECT tenant, id FROM dialogues
WHERE tenant = :tenant AND id = :dialogue_id
    AND version = coalesce(:expected, version)
    AND generation = coalesce(:generation, generation)"""
FIND_EXPIRED = """
SELECT tenant, id FROM dialogues
WHERE changed_at < :before ORDER BY changed_at LIMIT :limit"""

NOTE = """
INSERT INTO deliveries (tenant, demonstration_id, mark)
    SELECT tenant, demonstration_id, :mark FROM corrections
    WHERE tenant = :tenant AND dialogue_id = :dialogue_id
ON CONFLICT (tenant, demonstration_id) DO UPDATE SET mark = excluded.mark
RETURNING demonstration_id"""

ERASE = "DELETE FROM dialogues WHERE tenant = :tenant AND id = :dialogue_id"


@dataclass(frozen=True, slots=True)
class Pending:
    """A demonstration that is not yet as its correction says.

    Attributes:
        mark: another one when it is noted again.
    """

    tenant: str
    demonstration_id: str
    mark: int


@dataclass(frozen=True, slots=True)
class Erased:
    """A dialogue that was erased, and which demonstrations are to go with it."""

    tenant: str
    dialogue_id: str
    pending: tuple[Pending, ...]


def values_of(tenant: str, dialogue_id: str) -> dict[str, Any]:
    """What `NOTE` and `ERASE` take."""
    return {"tenant": tenant, "dialogue_id": dialogue_id, "mark": secrets.randbits(63)}


def erased(values: dict[str, Any], demonstration_ids: list[str]) -> Erased:
    """What became of it, from the values and what `NOTE` returned."""
    tenant = values["tenant"]
    noted = tuple(Pending(tenant, each, values["mark"]) for each in demonstration_ids)
    return Erased(tenant, values["dialogue_id"], noted)
