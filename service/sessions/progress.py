"""Counts a tenant's utterances, and the corrected ones, for each label space of answers.

The counts change in the commit that changes what they count. They are in parts, by dialogue, which
a reader sums: writers of different dialogues would otherwise wait for each other's commits.

Whoever changes several counts in a transaction does so last and in one order, so that no two
transactions wait for each other.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Delete,
    Dialect,
    Integer,
    Update,
    and_,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.sessions.schema import Insert, insert_into, utterance_counts

_PARTS = 16

_counts = utterance_counts.c
_IS_THE_PART = and_(
    *(
        _counts[name] == bindparam(f"of_{name}", type_=_counts[name].type)
        for name in ("tenant", "label_space", "part")
    )
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far people are with a label space.

    Attributes:
        utterances: those that were answered in it.
        corrected: those of them that have a person's label.
    """

    utterances: int
    corrected: int


PROGRESS = select(
    func.coalesce(func.sum(_counts.utterances), 0).label("utterances"),
    func.coalesce(func.sum(_counts.corrected), 0).label("corrected"),
).where(
    _counts.tenant == bindparam("tenant"),
    _counts.label_space == bindparam("label_space"),
)


def part_of(dialogue_id: str) -> int:
    """The part in which a dialogue's utterances are counted; the same in every process."""
    return zlib.crc32(dialogue_id.encode()) % _PARTS


def progress_parameters() -> dict[str, ColumnElement[Any]]:
    """What an append counts, by column of `utterance_counts`."""
    names = ("tenant", "label_space", "part")
    return {
        **{name: bindparam(name, type_=_counts[name].type) for name in names},
        "utterances": literal(1, Integer),
        "corrected": literal(0, Integer),
    }


def counting_utterances(statement: Insert) -> Insert:
    """An INSERT of counts that adds to the ones there are."""
    return statement.on_conflict_do_update(
        index_elements=utterance_counts.primary_key,
        set_={"utterances": _counts.utterances + statement.excluded.utterances},
    )


def count_utterance(dialect: Dialect) -> Insert:
    """Count a new utterance."""
    statement = insert_into(utterance_counts, dialect).values(progress_parameters())
    return counting_utterances(statement)


async def count_corrected(
    connection: AsyncConnection, tenant: str, label_space: str, dialogue_id: str, more: int
) -> None:
    """Count one more corrected utterance (1), or one less (-1)."""
    counted = update(utterance_counts).values(corrected=_counts.corrected + more)
    values = _values(tenant, label_space, part_of(dialogue_id))
    await connection.execute(counted.where(_IS_THE_PART), values)


def uncount() -> Update:
    """Subtract what a transaction erases; parameters as of `CutCounts`."""
    return (
        update(utterance_counts)
        .where(_IS_THE_PART)
        .values(
            utterances=_counts.utterances - bindparam("less_utterances", type_=Integer()),
            corrected=_counts.corrected - bindparam("less_corrected", type_=Integer()),
        )
    )


def drop_count() -> Delete:
    """Delete a count of nothing; a label space's name may be a tenant's own."""
    return delete(utterance_counts).where(_IS_THE_PART, _counts.utterances <= 0)


@dataclass(frozen=True, slots=True)
class CutCounts:
    """How many utterances a transaction erases, by tenant, label space and part."""

    utterances: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    corrected: Counter[tuple[str, str, int]] = field(default_factory=Counter)

    def add(self, tenant: str, dialogue_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add erased utterances of a dialogue: their `label_space`, `margin` and `corrected`."""
        part = part_of(dialogue_id)
        for row in rows:
            if row["margin"] is not None:
                name = (tenant, row["label_space"], part)
                self.utterances[name] += 1
                self.corrected[name] += bool(row["corrected"])

    def parameters(self) -> Iterator[dict[str, Any]]:
        """The parameters of `uncount` and `drop_count`, in the order of all transactions."""
        for name in sorted(self.utterances):
            yield {
                **_values(*name),
                "less_utterances": self.utterances[name],
                "less_corrected": self.corrected[name],
            }


def _values(tenant: str, label_space: str, part: int) -> dict[str, Any]:
    return {"of_tenant": tenant, "of_label_space": label_space, "of_part": part}
