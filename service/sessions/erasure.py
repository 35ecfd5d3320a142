"""The statements that erase dialogues, for both databases.

With a dialogue go its utterances, predictions and corrections; of the answers kept for its requests
the keys stay, so that none of these is done again. The demonstrations made of its corrections lie
elsewhere: each is noted for delivery in the same transaction, and whoever delivers finds no
correction any more and deletes the demonstration.

A transaction erases a portion, from the dialogue's end, so that other writers need not wait for a
long one. With the last portion goes the dialogue itself; until then it has a negative length, and
nobody finds it any more, or may begin another under its id: what is half erased must not go on.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# Utterances, changes and answers that go in one transaction: some 15 ms on SQLite.
PORTION = 1000

# Of no dialogue; but those whose erasure has begun were written before it.
BEGUN = datetime(1971, 1, 1, tzinfo=UTC)

# Both lock what they find where the database has rows to lock.
FIND = """
SELECT tenant, id, generation, abs(length) FROM dialogues
WHERE tenant = :tenant AND id = :dialogue_id
    AND version = coalesce(:expected, version)
    AND generation = coalesce(:generation, generation)"""
FIND_EXPIRED = """
SELECT tenant, id, generation, abs(length) FROM dialogues
WHERE changed_at < :before ORDER BY changed_at LIMIT :limit"""

CUT_CHANGES = """
DELETE FROM changes WHERE tenant = :tenant AND dialogue_id = :dialogue_id AND version IN (
    SELECT version FROM changes
    WHERE tenant = :tenant AND dialogue_id = :dialogue_id LIMIT :limit)"""

NOTE = """
INSERT INTO deliveries (tenant, demonstration_id, mark)
    SELECT tenant, demonstration_id, :mark FROM corrections
    WHERE tenant = :tenant AND dialogue_id = :dialogue_id AND "index" >= :kept
ON CONFLICT (tenant, demonstration_id) DO UPDATE SET mark = excluded.mark
RETURNING demonstration_id"""

CUT = """
DELETE FROM utterances
WHERE tenant = :tenant AND dialogue_id = :dialogue_id AND "index" >= :kept"""

# Older than any other: whatever the settings keep, its erasure goes on if this process ends.
SHORTEN = """
UPDATE dialogues SET length = -:kept, version = version + 1,
    changed_at = '1970-01-01 00:00:00.000000'
WHERE tenant = :tenant AND id = :dialogue_id"""

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
    """A dialogue that was erased, or its end, and which demonstrations are to go with it.

    Attributes:
        whole: nothing of the dialogue is left.
    """

    tenant: str
    dialogue_id: str
    generation: int
    whole: bool
    pending: tuple[Pending, ...]


@dataclass(frozen=True, slots=True)
class Portion:
    """The next of a dialogue's portions to be erased, once `FORGET` and `CUT_CHANGES` have run.

    Attributes:
        length: the dialogue's, before it.
    """

    tenant: str
    dialogue_id: str
    generation: int
    length: int
    mark: int

    @property
    def begins(self) -> dict[str, Any]:
        """What `FORGET` and `CUT_CHANGES` take."""
        return {"tenant": self.tenant, "dialogue_id": self.dialogue_id, "limit": PORTION}

    def is_last(self, *counts: int) -> bool:
        """Whether the dialogue goes with it, by how many rows `FORGET` and `CUT_CHANGES` found."""
        return self.length <= PORTION and max(counts) < PORTION

    def ends(self, *, last: bool) -> dict[str, Any]:
        """What `NOTE`, `CUT`, and `ERASE` or `SHORTEN` take."""
        kept = 0 if last else max(1, self.length - PORTION)  # no dialogue is without utterances
        return {
            "tenant": self.tenant,
            "dialogue_id": self.dialogue_id,
            "kept": kept,
            "mark": self.mark,
        }

    def erased(self, demonstration_ids: list[str], *, last: bool) -> Erased:
        """What became of it, from what `NOTE` returned."""
        noted = tuple(Pending(self.tenant, each, self.mark) for each in demonstration_ids)
        return Erased(self.tenant, self.dialogue_id, self.generation, last, noted)


def portion(tenant: str, dialogue_id: str, generation: int, length: int) -> Portion:
    """The next portion of a dialogue as `FIND` found it."""
    return Portion(tenant, dialogue_id, generation, length, secrets.randbits(63))
