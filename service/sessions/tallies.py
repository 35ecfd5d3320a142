"""Keeps the sums of valences and the counts of labels of each dialogue in step with its utterances.

An append adds to them, in SQL, within its own statement or commit: it needs the new utterance and
one earlier one, the next of the first third or the one that leaves the last third. A correction,
which is rare and may concern any utterance, sums the whole dialogue again. Valences are whole
numbers, so both ways give the same sums.

All other figures of a summary are made from the utterances when somebody asks: runs and peaks would
need rows of their own for each speaker, written with every utterance, which few of them are read.
"""

from dataclasses import asdict
from typing import Any, TypedDict

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Dialect,
    Double,
    Integer,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.conversation.summaries import PARTS_OF_A_DIALOGUE, tally
from service.conversation.valence import UNIT
from service.sessions.schema import (
    Insert,
    corrections,
    dialogue_labels,
    dialogues,
    insert_into,
    parameters_of,
    utterances,
)

IS_CORRECTED = and_(
    corrections.c.tenant == utterances.c.tenant,
    corrections.c.dialogue_id == utterances.c.dialogue_id,
    corrections.c.index == utterances.c.index,
)
"""Whether a correction is an utterance's."""
# Null where the utterance has no figures: summaries leave it out.
_FINAL_VALENCE = case(
    (utterances.c.label.is_not(None), func.coalesce(corrections.c.valence, utterances.c.valence))
)


class Growth(TypedDict):
    """What an append adds to the sums of its dialogue: parameters of `first_tally`, `grown_tally`.

    Attributes:
        new_count, new_total: of the new utterance.
        last_count, last_total: the same, as far as there are thirds for it to be in.
        moved: index of the utterance that enters the first third, or leaves the last one.
        enters, leaves: 1, or 0 where it does not.
    """

    new_count: int
    new_total: int
    last_count: int
    last_total: int
    moved: int
    enters: int
    leaves: int


def growth(length: int, valence: int | None) -> Growth:
    """The growth of a dialogue.

    Args:
        length: before it.
        valence: the new utterance's, in millionths.
    """
    third, next_third = length // PARTS_OF_A_DIALOGUE, (length + 1) // PARTS_OF_A_DIALOGUE
    count, total = (0, 0) if valence is None else (1, valence)
    grows = next_third > third
    return {
        "new_count": count,
        "new_total": total,
        "last_count": count if next_third else 0,
        "last_total": total if next_third else 0,
        "moved": third if grows else length - third,
        "enters": int(grows),
        "leaves": int(not grows),
    }


def _amount(name: str) -> BindParameter[int]:
    return bindparam(name, type_=BigInteger())


def _mean(total: ColumnElement[int], count: ColumnElement[int]) -> ColumnElement[Any]:
    """In millionths; null where the count is 0."""
    return cast(total, Double) / func.nullif(cast(count, Double), literal(0.0, Double))


_UNIT = literal(float(UNIT), Double)


def first_tally() -> dict[str, ColumnElement[Any]]:
    """The sums of a dialogue of one utterance, by column of `dialogues`."""
    count, total = _amount("new_count"), _amount("new_total")
    return {
        "valence_count": count,
        "valence_total": total,
        "valence": _mean(total, count) / _UNIT,
    }


def grown_tally() -> dict[str, ColumnElement[Any]]:
    """The sums of a dialogue with one more utterance, by column of `dialogues`."""
    there = dialogues.c
    moved = (
        select(
            func.count(_FINAL_VALENCE).label("count"),
            func.coalesce(func.sum(_FINAL_VALENCE), 0).label("total"),
        )
        .outerjoin_from(utterances, corrections, IS_CORRECTED)
        .where(
            utterances.c.tenant == bindparam("tenant"),
            utterances.c.dialogue_id == bindparam("dialogue_id"),
            utterances.c.index == bindparam("moved", type_=Integer()),
        )
        .cte("moved")
    )
    sums: dict[str, ColumnElement[Any]] = {}
    for name in ("count", "total"):
        of_moved = select(moved.c[name]).scalar_subquery()
        sums[f"valence_{name}"] = there[f"valence_{name}"] + _amount(f"new_{name}")
        sums[f"first_{name}"] = there[f"first_{name}"] + _amount("enters") * of_moved
        sums[f"last_{name}"] = (
            there[f"last_{name}"] + _amount(f"last_{name}") - _amount("leaves") * of_moved
        )
    last = _mean(sums["last_total"], sums["last_count"])
    first = _mean(sums["first_total"], sums["first_count"])
    return {
        **sums,
        "valence": _mean(sums["valence_total"], sums["valence_count"]) / _UNIT,
        "shift": (last - first) / _UNIT,
    }


def label_parameters() -> dict[str, ColumnElement[Any]]:
    """What an append counts of its label, by column of `dialogue_labels`."""
    return {**parameters_of(dialogue_labels), "count": literal(1, Integer)}


def counting(statement: Insert) -> Insert:
    """An INSERT of labels that adds to the counts there are."""
    there, new = dialogue_labels.c, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=dialogue_labels.primary_key,
        set_={
            "count": there.count + new.count,
            "probability": case(
                (there.probability > new.probability, there.probability), else_=new.probability
            ),
        },
    )


def count_label(dialect: Dialect) -> Insert:
    """Count the label of an utterance."""
    return counting(insert_into(dialogue_labels, dialect).values(label_parameters()))


async def sum_up(connection: AsyncConnection, tenant: str, dialogue_id: str) -> None:
    """Sum a dialogue again, whose row the transaction holds."""
    is_the_dialogue = and_(dialogues.c.tenant == tenant, dialogues.c.id == dialogue_id)
    is_of_it = and_(utterances.c.tenant == tenant, utterances.c.dialogue_id == dialogue_id)
    valences = (
        select(utterances.c.index, _FINAL_VALENCE)
        .outerjoin_from(utterances, corrections, IS_CORRECTED)
        .where(is_of_it, _FINAL_VALENCE.is_not(None))
    )
    rows = (await connection.execute(valences)).all()
    length = (
        await connection.execute(select(dialogues.c.length).where(is_the_dialogue))
    ).scalar_one()
    sums = tally(length, ((row[0], row[1]) for row in rows))
    columns = asdict(sums)
    columns["valence_count"], columns["valence_total"] = columns.pop("count"), columns.pop("total")
    await connection.execute(
        update(dialogues)
        .where(is_the_dialogue)
        .values(**columns, valence=sums.mean, shift=sums.shift)
    )
    await connection.execute(
        delete(dialogue_labels).where(
            dialogue_labels.c.tenant == tenant, dialogue_labels.c.dialogue_id == dialogue_id
        )
    )
    label = func.coalesce(corrections.c.label, utterances.c.label)
    probability = case((corrections.c.label.is_(None), utterances.c.probability), else_=1.0)
    of = utterances.c.tenant, utterances.c.dialogue_id, utterances.c.label_space
    counts = (
        select(*of, label, func.count(), func.max(probability))
        .outerjoin_from(
            utterances,
            corrections,
            and_(IS_CORRECTED, corrections.c.label_space == utterances.c.label_space),
        )
        .where(is_of_it, utterances.c.label.is_not(None))
        .group_by(*of, label)
    )
    await connection.execute(
        insert(dialogue_labels).from_select([column.name for column in dialogue_labels.c], counts)
    )
