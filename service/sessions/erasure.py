"""The statements that erase dialogues, for both databases.

With a dialogue go its utterances, predictions and corrections; of the answers kept for its requests
the keys stay, so that none of these requests is carried out again. The demonstrations made of its
corrections are in the demonstration store: each is noted for delivery in the same transaction, and
the process that delivers finds no correction any more and deletes the demonstration.

A transaction erases a portion, from the dialogue's end, so that other writers need not wait for a
long one. With the last portion goes the dialogue itself; until then it has a negative length, and
nobody finds it or may begin another under its id: a half-erased dialogue must not go on.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Dialect,
    Table,
    and_,
    bindparam,
    delete,
    func,
    select,
    update,
)

from service.sessions.deliveries import Pending, noting
from service.sessions.idempotency import FORGET
from service.sessions.progress import drop_count, uncount
from service.sessions.schema import (
    CompiledStatement,
    changes,
    compile_once,
    corrections,
    deliveries,
    dialogues,
    insert_into,
    utterances,
)

# Utterances, changes and answers that go in one transaction: some 15 ms on SQLite.
PORTION = 1000

# No dialogue is written to before it; one whose erasure has begun counts as last written before it.
BEGUN = datetime(1971, 1, 1, tzinfo=UTC)
# Older than any other: whatever the settings keep, its erasure goes on if this process ends.
_ERASING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Erased:
    """A dialogue, or the end of one, that was erased, and the demonstrations to delete with it.

    Attributes:
        whole: nothing of the dialogue is left.
    """

    tenant: str
    dialogue_id: str
    generation: int
    whole: bool
    pending: tuple[Pending, ...]


def to_find(
    tenant: str, dialogue_id: str, generation: int | None, number: int | None
) -> Mapping[str, str | int | None]:
    """The values of `ErasureStatements.find`; None: any generation, or any version."""
    return {
        "tenant": tenant,
        "dialogue_id": dialogue_id,
        "generation": generation,
        "expected": number,
    }


@dataclass(frozen=True, slots=True)
class ErasureStatements:
    """The statements, compiled for one dialect, in the order in which a transaction executes them.

    Attributes:
        find: the dialogue, which may have to be of a `generation` and of an `expected` version.
        find_expired: at most `limit` of the dialogues last written `before` a moment. Both lock
            what they find where the database has rows to lock.
        forget: at most `limit` of the dialogue's answers.
        cut_changes: at most `limit` of the dialogue's changes.
        note: the demonstrations of what is cut; returns their ids.
        cut: the utterances from index `kept` on; returns what `CutCounts.add` takes.
        shorten: the dialogue to `kept` utterances.
        erase: the dialogue itself.
        uncount, drop_count: with the parameters of `CutCounts`, after everything else.
    """

    find: CompiledStatement
    find_expired: CompiledStatement
    forget: CompiledStatement
    cut_changes: CompiledStatement
    note: CompiledStatement
    cut: CompiledStatement
    shorten: CompiledStatement
    erase: CompiledStatement
    uncount: CompiledStatement
    drop_count: CompiledStatement

    @classmethod
    def compiled_for(cls, dialect: Dialect) -> "ErasureStatements":
        kept = bindparam("kept", type_=utterances.c.index.type)
        is_the_dialogue = and_(
            dialogues.c.tenant == bindparam("tenant"), dialogues.c.id == bindparam("dialogue_id")
        )
        portion = select(
            dialogues.c.tenant,
            dialogues.c.id.label("dialogue_id"),
            dialogues.c.generation,
            func.abs(dialogues.c.length).label("length"),
        )
        find = portion.where(
            is_the_dialogue,
            dialogues.c.version == _given_or_any("expected", dialogues.c.version),
            dialogues.c.generation == _given_or_any("generation", dialogues.c.generation),
        )
        find_expired = (
            portion.where(dialogues.c.changed_at < bindparam("before"))
            .order_by(dialogues.c.changed_at)
            .limit(bindparam("limit", type_=BigInteger()))
        )
        some_changes = (
            select(changes.c.version)
            .where(_is_of_the_dialogue(changes))
            .limit(bindparam("limit", type_=BigInteger()))
        )
        statements = {
            "find": find.with_for_update(),
            # What another process writes or erases just now is left to it.
            "find_expired": find_expired.with_for_update(skip_locked=True),
            "forget": FORGET,
            "cut_changes": delete(changes).where(
                _is_of_the_dialogue(changes), changes.c.version.in_(some_changes)
            ),
            "note": _note(dialect, kept),
            "cut": delete(utterances)
            .where(_is_of_the_dialogue(utterances), utterances.c.index >= kept)
            .returning(utterances.c.label_space, utterances.c.margin, utterances.c.corrected),
            "shorten": update(dialogues)
            .where(is_the_dialogue)
            .values(
                length=-kept,
                version=dialogues.c.version + 1,
                changed_at=_ERASING,
            ),
            "erase": delete(dialogues).where(is_the_dialogue),
            "uncount": uncount(),
            "drop_count": drop_count(),
        }
        return cls(**{name: compile_once(each, dialect) for name, each in statements.items()})


def _given_or_any(name: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(bindparam(name, type_=column.type), column)


def _is_of_the_dialogue(table: Table) -> ColumnElement[bool]:
    return and_(
        table.c.tenant == bindparam("tenant"), table.c.dialogue_id == bindparam("dialogue_id")
    )


def _note(dialect: Dialect, kept: ColumnElement[int]) -> Any:
    cut = select(
        corrections.c.tenant,
        corrections.c.demonstration_id,
        bindparam("mark", type_=deliveries.c.mark.type).label("mark"),
    ).where(_is_of_the_dialogue(corrections), corrections.c.index >= kept)
    noted = insert_into(deliveries, dialect).from_select(cut.selected_columns.keys(), cut)
    return noting(noted).returning(deliveries.c.demonstration_id)


@dataclass(frozen=True, slots=True)
class Portion:
    """The next of a dialogue's portions to be erased; begins once its answers and changes are cut.

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
        """The parameters of `forget` and `cut_changes`."""
        return {"tenant": self.tenant, "dialogue_id": self.dialogue_id, "limit": PORTION}

    def is_last(self, *counts: int) -> bool:
        """Whether the dialogue goes with it, by the numbers of rows that went before it."""
        return self.length <= PORTION and max(counts) < PORTION

    def ends(self, *, last: bool) -> dict[str, Any]:
        """The parameters of `note`, `cut`, and `erase` or `shorten`."""
        kept = 0 if last else max(1, self.length - PORTION)  # no dialogue is without utterances
        return {
            "tenant": self.tenant,
            "dialogue_id": self.dialogue_id,
            "kept": kept,
            "mark": self.mark,
        }

    def erased(self, demonstration_ids: Iterable[str], *, last: bool) -> Erased:
        """The erased portion, with the demonstrations that `note` returned."""
        noted = tuple(Pending(self.tenant, each, self.mark) for each in demonstration_ids)
        return Erased(self.tenant, self.dialogue_id, self.generation, last, noted)


def portion(row: Mapping[str, Any]) -> Portion:
    """The next portion of a dialogue as `find` found it."""
    return Portion(**row, mark=secrets.randbits(63))


def portions(rows: Iterable[Mapping[str, Any]]) -> Iterator[Portion]:
    """The portions that one transaction erases: at least one, and no more than it has room for."""
    utterance_count = 0
    for each in map(portion, rows):
        if utterance_count and utterance_count + each.length > PORTION:
            return
        utterance_count += each.length
        yield each
