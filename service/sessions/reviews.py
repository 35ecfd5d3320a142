"""What people check, and what they have corrected.

A list has utterances across dialogues, by how little the model prefers its label; an export has the
dialogues with corrections, portion by portion.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Integer, Row, Select, and_, bindparam, select

from service.conversation.dialogue import Utterance
from service.sessions.database import Database
from service.sessions.progress import PROGRESS, Progress
from service.sessions.queries import (
    CORRECTION,
    IS_OF_DIALOGUE,
    IS_THE_DIALOGUE,
    IS_WHOLE,
    comes_after,
    in_order,
)
from service.sessions.records import (
    UTTERANCE_COLUMNS,
    StoredUtterance,
    correction_of,
    utterance_of,
)
from service.sessions.schema import corrections, dialogues, utterances
from service.sessions.tallies import IS_CORRECTED


class ReviewOrder(StrEnum):
    """What a list of utterances is sorted by."""

    MARGIN = "margin"
    """How far the highest probability is above the next, the least first."""
    NEWEST = "newest"
    """The moment when they were stored, newest first."""


@dataclass(frozen=True, slots=True)
class ReviewPlace:
    """An utterance's place in an order: what it is sorted by, its dialogue and its index."""

    value: datetime | float
    dialogue_id: str
    index: int


@dataclass(frozen=True, slots=True)
class ReviewedUtterance:
    """An utterance in a list.

    Attributes:
        margin: its highest probability minus the next, 0 to 1.
    """

    dialogue_id: str
    utterance: StoredUtterance
    margin: float


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """A part of a list.

    Attributes:
        end: where the next page begins; None: this one is the last.
    """

    utterances: tuple[ReviewedUtterance, ...]
    end: ReviewPlace | None


@dataclass(frozen=True, slots=True)
class CorrectedPortion:
    """The next utterances of a dialogue with corrections.

    Attributes:
        utterances: at least one; only those with a correction have a label, which is a person's.
        first, last: whether they begin the dialogue, and end it.
    """

    dialogue_id: str
    utterances: tuple[Utterance, ...]
    first: bool
    last: bool


# How many ids of dialogues, and how many utterances of one, are read at a time.
_DIALOGUES = 200
_UTTERANCES = 500

_SORTED_BY: Mapping[ReviewOrder, ColumnElement[Any]] = {
    ReviewOrder.MARGIN: utterances.c.margin,
    ReviewOrder.NEWEST: utterances.c.created_at,
}


class Reviews:
    """Reads what people check in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def progress(self, tenant: str, label_space: str) -> Progress:
        """How many utterances were answered in a label space, and how many are corrected."""
        values = {"tenant": tenant, "label_space": label_space}
        (row,) = await self._database.fetch(PROGRESS, values)
        return Progress(int(row.utterances), int(row.corrected))

    async def page(
        self,
        tenant: str,
        label_space: str,
        order: ReviewOrder,
        limit: int,
        after: ReviewPlace | None = None,
        *,
        corrected: bool = False,
    ) -> ReviewPage:
        """At most `limit` of the tenant's utterances, in an order, after a place in it.

        A page has fewer than that where dialogues are being erased.

        Args:
            label_space: that of their answers.
            corrected: those with a person's label, in whichever label space; or those without.
        """
        asked = _in_order(tenant, label_space, order, after, corrected=corrected)
        rows = await self._database.fetch(asked.limit(limit + 1))
        listed = tuple(
            ReviewedUtterance(row.dialogue_id, utterance_of(row, correction_of(row)), row.margin)
            for row in rows[:limit]
            if row.is_whole
        )
        if len(rows) <= limit:
            return ReviewPage(listed, None)
        last = rows[limit - 1]
        return ReviewPage(listed, ReviewPlace(last.place, last.dialogue_id, last._mapping["index"]))

    async def corrected(
        self, tenant: str, label_space: str, since: datetime | None = None
    ) -> AsyncIterator[CorrectedPortion]:
        """The tenant's dialogues that have corrections in a label space, in the order of their ids.

        Each is read as it is when its turn comes; one that is erased meanwhile ends there.

        Args:
            since: when one of these corrections must have been made, or later; None: whenever.
        """
        last = ""
        while True:
            ids = (
                select(corrections.c.dialogue_id)
                .where(
                    corrections.c.tenant == tenant,
                    corrections.c.label_space == label_space,
                    corrections.c.dialogue_id > last,
                )
                .distinct()
                .order_by(corrections.c.dialogue_id)
                .limit(_DIALOGUES)
            )
            if since is not None:
                ids = ids.where(corrections.c.created_at >= since)
            rows = await self._database.fetch(ids)
            for row in rows:
                async for portion in self._portions(tenant, row.dialogue_id, label_space):
                    yield portion
            if len(rows) < _DIALOGUES:
                return
            last = rows[-1].dialogue_id

    async def _portions(
        self, tenant: str, dialogue_id: str, label_space: str
    ) -> AsyncIterator[CorrectedPortion]:
        values = {"tenant": tenant, "dialogue_id": dialogue_id, "label_space": label_space}
        held: CorrectedPortion | None = None  # until it is known whether another one follows
        generation, after = None, -1
        while True:
            rows = await self._database.fetch(_LINES, {**values, "after": after})
            if rows and generation not in (None, rows[0].generation):
                rows = ()  # erased, and begun anew
            if held is not None:
                yield replace(held, last=not rows)
            if not rows:
                return
            generation, begins, after = rows[0].generation, after < 0, rows[-1]._mapping["index"]
            held = CorrectedPortion(dialogue_id, tuple(map(_line, rows)), begins, last=True)
            if len(rows) < _UTTERANCES:
                yield held
                return


_LINES = (
    select(
        dialogues.c.generation,
        utterances.c.index,
        *(utterances.c[name] for name in ("speaker", "text", "description", "start", "end")),
        utterances.c.role,
        corrections.c.label.label("corrected_label"),
    )
    .join_from(
        dialogues,
        utterances,
        and_(IS_OF_DIALOGUE, utterances.c.index > bindparam("after", type_=Integer)),
    )
    .outerjoin(
        corrections,
        and_(
            IS_CORRECTED,
            corrections.c.label_space == bindparam("label_space"),
        ),
    )
    .where(IS_THE_DIALOGUE)
    .order_by(utterances.c.index)
    .limit(_UTTERANCES)
)


def _line(row: Row[*tuple[Any, ...]]) -> Utterance:
    return Utterance(
        row.speaker,
        row.text,
        row.corrected_label,
        row.description,
        start=row.start,
        end=row.end,
        role=row.role,
    )


def _in_order(
    tenant: str, label_space: str, order: ReviewOrder, after: ReviewPlace | None, *, corrected: bool
) -> Select[Any]:
    key = _SORTED_BY[order]
    by = (key, utterances.c.dialogue_id, utterances.c.index)
    asked = (
        select(
            *(utterances.c[name] for name in UTTERANCE_COLUMNS),
            utterances.c.dialogue_id,
            utterances.c.margin,
            key.label("place"),
            dialogues.c.id.is_not(None).label("is_whole"),
            *CORRECTION,
        )
        # Outer joins: the order is that of an index, and each row of it costs two look-ups.
        .outerjoin_from(
            utterances,
            dialogues,
            and_(IS_OF_DIALOGUE, IS_WHOLE),
        )
        .outerjoin(corrections, IS_CORRECTED)
        .where(
            utterances.c.tenant == tenant,
            utterances.c.label_space == label_space,
            utterances.c.corrected == bindparam(None, corrected, type_=utterances.c.corrected.type),
            utterances.c.margin.is_not(None),
        )
    )
    falls = order is ReviewOrder.NEWEST
    if after is not None:
        place = (after.value, after.dialogue_id, after.index)
        asked = asked.where(comes_after(by, place, falls=falls))
    return asked.order_by(*in_order(by, falls=falls))
