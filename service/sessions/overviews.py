"""What dialogues were like: the readings of one, for its summary, and lists of many.

A page of a list looks through a bounded number of dialogues, in the order of an index, and returns
those that match. So its cost depends neither on how many dialogues there are nor on how few of them
match: a page may have few dialogues, or none, and still lead to another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Subquery,
    and_,
    exists,
    func,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.conversation.summaries import PersonsLabel, Reading
from service.errors import DialogueNotFound
from service.sessions.database import Database, Rows
from service.sessions.queries import (
    CORRECTED_LABEL,
    IS_OF_DIALOGUE,
    IS_THE_DIALOGUE,
    IS_WHOLE,
    comes_after,
    in_order,
)
from service.sessions.records import Version
from service.sessions.schema import corrections, dialogue_labels, dialogues, utterances

_Row = Row[*tuple[Any, ...]]

# How many dialogues a page looks through: some 10 ms.
_LOOKED_THROUGH = 1000


@dataclass(frozen=True, slots=True)
class ReadDialogue:
    """A dialogue as it was read.

    Attributes:
        rows: of the statement, in order; without the utterances that have no figures.
    """

    version: Version
    length: int
    rows: Rows

    def readings(self) -> list[Reading]:
        """The readings of the utterances; ten thousand take some 40 ms.

        A correction agrees only in the label space of the answer.
        """
        return [_reading(row) for row in self.rows if row.label is not None]


class Order(StrEnum):
    """What a list of dialogues is sorted by."""

    UPDATED = "updated"
    """The last write, newest first."""
    VALENCE = "valence"
    """The mean valence, worst first; without the dialogues that have none."""
    FALL = "fall"
    """The shift of the valence, steepest fall first; without the dialogues that have none."""


@dataclass(frozen=True, slots=True)
class LabelCondition:
    """A label that dialogues must have.

    Attributes:
        share: the least share of the utterances in its label space, 0 to 1.
        probability: the least that an utterance with the label must have, 0 to 1.
    """

    label_space: str
    label: str
    share: float = 0.0
    probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """Which dialogues a list has.

    Attributes:
        updated_since: when they must have been written to, or later.
        speaker: a name that must have spoken.
        role: one that a speaker must have.
    """

    updated_since: datetime | None = None
    label: LabelCondition | None = None
    speaker: str | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A dialogue's place in an order: what it is sorted by, and its id."""

    value: datetime | float
    dialogue_id: str


@dataclass(frozen=True, slots=True)
class Overview:
    """A dialogue in a list.

    Attributes:
        created_at, changed_at: in UTC.
        valence: the mean, -1 to 1; None: it has none.
        shift: as `service.conversation.summaries.Tally.shift`.
    """

    id: str
    created_at: datetime
    changed_at: datetime
    length: int
    speaker_count: int
    valence: float | None
    shift: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        end: where the next page begins; None: this one is the last.
    """

    dialogues: tuple[Overview, ...]
    end: Place | None


_READINGS = (
    select(
        utterances.c.index,
        utterances.c.speaker,
        utterances.c.role,
        utterances.c.label_space,
        utterances.c.label,
        utterances.c.probability,
        utterances.c.valence,
        *CORRECTED_LABEL,
        corrections.c.valence.label("corrected_valence"),
        dialogues.c.generation,
        dialogues.c.version.label("number"),
        dialogues.c.length,
    )
    .outerjoin_from(
        dialogues,
        utterances,
        and_(IS_OF_DIALOGUE, utterances.c.label.is_not(None)),
    )
    .outerjoin(corrections)
    .where(IS_THE_DIALOGUE)
    .order_by(utterances.c.index)
)

_SORTED_BY: Mapping[Order, ColumnElement[Any]] = {
    Order.UPDATED: dialogues.c.changed_at,
    Order.VALENCE: dialogues.c.valence,
    Order.FALL: dialogues.c.shift,
}
_COLUMNS = tuple(dialogues.c[name] for name in Overview.__slots__)


class Overviews:
    """Reads what the dialogues in one database were like.

    Every method raises `DatabaseUnavailable`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, tenant: str, dialogue_id: str) -> ReadDialogue:
        """What a summary needs of a dialogue.

        Raises:
            DialogueNotFound: no dialogue has this id.
        """
        values = {"tenant": tenant, "dialogue_id": dialogue_id}
        rows = await self._database.fetch(_READINGS, values)
        if not rows:
            raise DialogueNotFound(f"no dialogue {dialogue_id!r}")
        dialogue = rows[0]
        version = Version(dialogue.generation, dialogue.number)
        return ReadDialogue(version, dialogue.length, rows)

    async def page(
        self,
        tenant: str,
        order: Order,
        limit: int,
        after: Place | None = None,
        conditions: Conditions = Conditions(),
    ) -> Page:
        """At most `limit` of the tenant's dialogues, in an order, after a place in it."""
        window = _window(tenant, order, after, conditions.updated_since)
        candidates = window.subquery("candidates")
        by = (candidates.c.place, candidates.c.id)
        matching = (
            select(candidates)
            .where(*_matches(tenant, candidates, conditions))
            .order_by(*in_order(by, falls=order is Order.UPDATED))
        )
        last = window.with_only_columns(_SORTED_BY[order].label("place"), dialogues.c.id)

        async def read(connection: AsyncConnection) -> tuple[Rows, _Row | None]:
            rows = (await connection.execute(matching.limit(limit))).all()
            if len(rows) == limit:
                return rows, None
            at_the_end = last.offset(_LOOKED_THROUGH - 1).limit(1)
            return rows, (await connection.execute(at_the_end)).one_or_none()

        rows, end = await self._database.run(read)
        found = tuple(
            Overview(**{name: row._mapping[name] for name in Overview.__slots__}) for row in rows
        )
        if len(rows) == limit:
            return Page(found, Place(rows[-1].place, rows[-1].id))
        return Page(found, None if end is None else Place(end.place, end.id))


def _window(
    tenant: str, order: Order, after: Place | None, updated_since: datetime | None
) -> Select[Any]:
    """The dialogues that a page looks through."""
    key = _SORTED_BY[order]
    asked = select(*_COLUMNS, key.label("place")).where(dialogues.c.tenant == tenant, IS_WHOLE)
    if order is not Order.UPDATED:
        asked = asked.where(key.is_not(None))
    elif updated_since is not None:  # the list ends there, however many older dialogues there are
        asked = asked.where(key >= updated_since)
    by, falls = (key, dialogues.c.id), order is Order.UPDATED
    if after is not None:
        asked = asked.where(comes_after(by, (after.value, after.dialogue_id), falls=falls))
    return asked.order_by(*in_order(by, falls=falls)).limit(_LOOKED_THROUGH)


def _matches(
    tenant: str, candidates: Subquery, conditions: Conditions
) -> list[ColumnElement[bool]]:
    matches: list[ColumnElement[bool]] = []
    if conditions.updated_since is not None:
        matches.append(candidates.c.changed_at >= conditions.updated_since)
    is_of_it = and_(utterances.c.tenant == tenant, utterances.c.dialogue_id == candidates.c.id)
    if conditions.speaker is not None:
        matches.append(exists().where(is_of_it, utterances.c.speaker == conditions.speaker))
    if conditions.role is not None:
        matches.append(exists().where(is_of_it, utterances.c.role == conditions.role))
    if conditions.label is not None:
        matches.append(_has_label(tenant, candidates, conditions.label))
    return matches


def _has_label(tenant: str, candidates: Subquery, condition: LabelCondition) -> ColumnElement[bool]:
    label, siblings = dialogue_labels, dialogue_labels.alias("siblings")
    utterance_count = (
        select(func.sum(siblings.c.count))
        .where(
            siblings.c.tenant == tenant,
            siblings.c.dialogue_id == candidates.c.id,
            siblings.c.label_space == condition.label_space,
        )
        .correlate(candidates)
        .scalar_subquery()
    )
    return exists().where(
        label.c.tenant == tenant,
        label.c.dialogue_id == candidates.c.id,
        label.c.label_space == condition.label_space,
        label.c.label == condition.label,
        label.c.probability >= condition.probability,
        label.c.count >= condition.share * utterance_count,
    )


def _reading(row: _Row) -> Reading:
    columns: list[Any] = list(row)
    index, speaker, role, label_space, label, probability, valence, *others = columns
    corrected_label_space, corrected_label, corrected_valence = others[:3]
    correction = None
    if corrected_label is not None:
        agrees = corrected_label == label if corrected_label_space == label_space else None
        correction = PersonsLabel(corrected_label_space, corrected_label, corrected_valence, agrees)
    return Reading(index, speaker, role, label_space, label, probability, valence, correction)
