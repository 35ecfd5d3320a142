"""The statements that read dialogues; each sees one moment, without a transaction."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    UnaryExpression,
    and_,
    bindparam,
    func,
    select,
    true,
    tuple_,
)

from service.sessions.records import UTTERANCE_COLUMNS
from service.sessions.schema import changes, corrections, dialogues, utterances

# The erasure of the others has begun.
IS_WHOLE = dialogues.c.length > 0

IS_THE_DIALOGUE = and_(
    dialogues.c.tenant == bindparam("tenant"),
    dialogues.c.id == bindparam("dialogue_id"),
    IS_WHOLE,
)
IS_OF_DIALOGUE = and_(
    utterances.c.tenant == dialogues.c.tenant, utterances.c.dialogue_id == dialogues.c.id
)
"""Whether an utterance is a dialogue's."""

CORRECTED_LABEL = (
    corrections.c.label_space.label("corrected_label_space"),
    corrections.c.label.label("corrected_label"),
)
CORRECTION = (*CORRECTED_LABEL, corrections.c.created_at.label("corrected_at"))
"""The columns that `service.sessions.records.correction_of` reads."""

_OF_THE_DIALOGUE = and_(
    utterances.c.tenant == bindparam("tenant"),
    utterances.c.dialogue_id == bindparam("dialogue_id"),
)

# Both have an index that yields their order, so that no planner, whatever its statistics of the
# table, reads more rows than it returns.
_known_speaker = (
    select(utterances.c.speaker_index)
    .where(_OF_THE_DIALOGUE, utterances.c.speaker == bindparam("speaker"))
    .order_by(utterances.c.speaker_index)
    .limit(1)
    .scalar_subquery()
)
_last = (
    select(utterances.c.index, utterances.c.speaker, utterances.c.speaker_index, utterances.c.text)
    .where(_OF_THE_DIALOGUE)
    .order_by(utterances.c.index.desc())
    .limit(bindparam("lines", type_=Integer))
    .subquery()
)
END = (
    select(
        dialogues.c.generation,
        dialogues.c.length,
        dialogues.c.speaker_count,
        _known_speaker.label("known_index"),
        _last.c.speaker,
        _last.c.speaker_index,
        _last.c.text,
    )
    .outerjoin_from(dialogues, _last, true())
    .where(IS_THE_DIALOGUE)
    .order_by(_last.c.index)
)

TIMELINE = (
    select(
        dialogues.c.created_at.label("dialogue_created_at"),
        dialogues.c.generation,
        dialogues.c.version.label("number"),
        dialogues.c.length,
        *(utterances.c[name] for name in UTTERANCE_COLUMNS),
        *CORRECTION,
    )
    .outerjoin_from(
        dialogues,
        utterances,
        and_(
            IS_OF_DIALOGUE,
            utterances.c.index > bindparam("after", type_=Integer),
        ),
    )
    .outerjoin(corrections)
    .where(IS_THE_DIALOGUE)
    .order_by(utterances.c.index)
    .limit(bindparam("limit", type_=BigInteger))
)

VERSION = select(dialogues.c.generation, dialogues.c.version.label("number")).where(IS_THE_DIALOGUE)

UTTERANCES_WRITTEN = (
    select(utterances.c.version, *(utterances.c[name] for name in UTTERANCE_COLUMNS))
    .where(
        _OF_THE_DIALOGUE,
        utterances.c.index >= bindparam("first"),
        utterances.c.version > bindparam("after"),
        utterances.c.version <= bindparam("until"),
    )
    .order_by(utterances.c.index)
    .limit(bindparam("limit", type_=BigInteger))
)
"""Those written `after` a version and `until` another, from the index `first` on."""

CORRECTIONS_CHANGED = (
    select(
        changes.c.version,
        changes.c.index,
        changes.c.label_space,
        changes.c.label,
        changes.c.created_at,
    )
    .where(
        changes.c.tenant == bindparam("tenant"),
        changes.c.dialogue_id == bindparam("dialogue_id"),
        changes.c.version > bindparam("after"),
        changes.c.version <= bindparam("until"),
    )
    .order_by(changes.c.version)
    .limit(bindparam("limit", type_=BigInteger))
)
"""The changes of corrections `after` a version and `until` another."""

CHANGED_SINCE = select(func.count()).where(dialogues.c.changed_at >= bindparam("moment"))

PING = select(dialogues.c.id).limit(1)


def in_order(by: Sequence[ColumnElement[Any]], *, falls: bool) -> list[UnaryExpression[Any]]:
    """The ORDER BY of a list that pages go through."""
    return [each.desc() if falls else each.asc() for each in by]


def comes_after(
    by: Sequence[ColumnElement[Any]], place: Sequence[Any], *, falls: bool
) -> ColumnElement[bool]:
    """Whether a row comes after a place in the order of `in_order`."""
    here = tuple_(*by)
    there = tuple_(
        *(bindparam(None, value, type_=each.type) for each, value in zip(by, place, strict=True))
    )
    return here < there if falls else here > there
