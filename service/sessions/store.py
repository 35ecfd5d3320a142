"""Reads and writes durable dialogues."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Integer, bindparam, case, delete, func, insert, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from service.conversation.dialogue import Line
from service.errors import DialogueNotFound
from service.sessions.database import answering, transactional
from service.sessions.schema import dialogues, utterances


class Conflict(Exception):
    """The dialogue is no longer as long as the writer saw it; read its tail again and retry.

    Another writer appended first, or the dialogue was deleted. It never leaves the service: whoever
    appends retries, and says `DialogueBusy` when that does not help.
    """


@dataclass(frozen=True, slots=True)
class Tail:
    """What is needed to label a dialogue's next utterance, as of one moment.

    Attributes:
        length: the number of utterances so far, which is the next one's index; 0 for a dialogue
            that does not exist.
        first: the index of the first of `lines`; `length` when there are none.
        lines: the last utterances, oldest first.
        speaker_index: the coming speaker's number, by first appearance in the whole dialogue.
    """

    length: int
    first: int
    lines: tuple[Line, ...]
    speaker_index: int


@dataclass(frozen=True, slots=True)
class StoredUtterance:
    """One utterance as it lies in the database.

    Attributes:
        prediction: the JSON object that was given to `append`, unchanged.
        created_at: in UTC.
    """

    index: int
    speaker: str
    speaker_index: int
    text: str
    label_space: str
    prediction: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole dialogue, its utterances in order; `created_at` is in UTC."""

    id: str
    created_at: datetime
    utterances: tuple[StoredUtterance, ...]


class SessionStore:
    """The dialogues in one database, whose tables `migrate` has made.

    Every method raises `DatabaseUnavailable` when the database does not answer, and `ValueError`
    for a string that not every database can hold (a NUL character, a lone surrogate).
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writer = transactional(engine)
        self._is_sqlite = engine.dialect.name == "sqlite"
        # SQLite has one writer at a time; those that wait there poll, out of order, and keep the
        # pool's connections from the readers.
        self._writing: AbstractAsyncContextManager[None] = (
            asyncio.Lock() if self._is_sqlite else nullcontext()
        )

    async def tail(self, dialogue_id: str, speaker: str, lines: int) -> Tail:
        """The last `lines` utterances and the number of the speaker who comes next.

        The cost does not grow with the dialogue's length.
        """
        _check(dialogue_id, speaker)
        values = {"dialogue_id": dialogue_id, "speaker": speaker, "lines": lines}
        with answering():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(_TAIL, values)).all()
        if not rows:
            return Tail(length=0, first=0, lines=(), speaker_index=0)
        length, speaker_index = rows[0][:2]
        # A dialogue without lines to show is one row whose line is null.
        found = tuple(Line(line[0], line[1]) for _, _, *line in rows if line[1] is not None)
        return Tail(length, length - len(found), found, speaker_index)

    async def append(
        self,
        dialogue_id: str,
        index: int,
        *,
        speaker: str,
        speaker_index: int,
        text: str,
        label_space: str,
        prediction: dict[str, Any],
    ) -> StoredUtterance:
        """Store the next utterance; on return it is on disk. Index 0 creates the dialogue.

        Args:
            dialogue_id: any string.
            index: the dialogue's length, as `tail` gave it.
            speaker: who says it.
            speaker_index: as `tail` gave it for this speaker.
            text: what is said.
            label_space: the name of the label space of the prediction.
            prediction: any JSON object.

        Raises:
            Conflict: the dialogue's length is not `index`; nothing is stored.
            ValueError: the prediction holds NaN or an infinity.
        """
        _check(dialogue_id, speaker, text, label_space)
        json.dumps(prediction, allow_nan=False)  # SQLite would take a NaN, PostgreSQL would not
        now = datetime.now(UTC)
        stored = StoredUtterance(
            index, speaker, speaker_index, text, label_space, prediction, created_at=now
        )
        row = {name: getattr(stored, name) for name in _FIELDS} | {"dialogue_id": dialogue_id}
        with answering():
            async with self._writing, self._writer.begin() as connection:
                if index == 0:
                    first = {"id": dialogue_id, "created_at": now, "length": 1}
                    try:
                        await connection.execute(
                            insert(dialogues), first | {"speaker_count": speaker_index + 1}
                        )
                    except IntegrityError:
                        raise Conflict(f"dialogue {dialogue_id!r} exists") from None
                else:
                    # Holds the dialogue's row until the commit, so that writers take turns.
                    place = {"dialogue_id": dialogue_id, "place": index, "spoke": speaker_index}
                    if (await connection.execute(_GROW, place)).rowcount != 1:
                        raise Conflict(f"dialogue {dialogue_id!r} does not end before {index}")
                await connection.execute(insert(utterances), row)
        return stored

    async def timeline(self, dialogue_id: str) -> Timeline:
        """A whole dialogue.

        Raises:
            DialogueNotFound: no dialogue has this id.
        """
        _check(dialogue_id)
        with answering():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(_TIMELINE, {"dialogue_id": dialogue_id})).all()
        if not rows:
            raise DialogueNotFound(f"no dialogue {dialogue_id!r}")
        said = tuple(StoredUtterance(*columns) for _, *columns in rows)
        return Timeline(dialogue_id, rows[0][0], said)

    async def delete(self, dialogue_id: str) -> None:
        """Erase a dialogue, and from a SQLite file its bytes too.

        PostgreSQL frees the space at its next vacuum; its archives are its owner's affair.

        Raises:
            DialogueNotFound: no dialogue has this id.
        """
        _check(dialogue_id)
        with answering():
            async with self._writing:
                async with self._writer.begin() as connection:
                    deleted = await connection.execute(_DELETE, {"dialogue_id": dialogue_id})
                if deleted.rowcount and self._is_sqlite:
                    # The write-ahead log would keep the text until it is next overwritten.
                    async with self._engine.connect() as connection:
                        await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        if not deleted.rowcount:
            raise DialogueNotFound(f"no dialogue {dialogue_id!r}")

    async def ping(self) -> None:
        """Check that the database answers and has the tables."""
        with answering():
            async with self._engine.connect() as connection:
                await connection.execute(_PING)

    async def close(self) -> None:
        """Close the connections to the database."""
        await self._engine.dispose()


def _check(*strings: str) -> None:
    for string in strings:
        if "\0" in string:
            raise ValueError("a NUL character cannot be stored")
        string.encode()  # a lone surrogate: UnicodeEncodeError, which is a ValueError


_FIELDS = tuple(field.name for field in fields(StoredUtterance))

_IS_THE_DIALOGUE = dialogues.c.id == bindparam("dialogue_id")
_OF_THE_DIALOGUE = utterances.c.dialogue_id == bindparam("dialogue_id")

# Both have an index that yields their order, so that no planner, whatever it believes about the
# table, reads more rows than are asked for.
_known_speaker = (
    select(utterances.c.speaker_index)
    .where(_OF_THE_DIALOGUE, utterances.c.speaker == bindparam("speaker"))
    .order_by(utterances.c.speaker_index)
    .limit(1)
    .scalar_subquery()
)
_last = (
    select(utterances.c.index, utterances.c.speaker_index, utterances.c.text)
    .where(_OF_THE_DIALOGUE)
    .order_by(utterances.c.index.desc())
    .limit(bindparam("lines", type_=Integer))
    .subquery()
)
# One statement sees one moment, without a transaction.
_TAIL = (
    select(
        dialogues.c.length,
        func.coalesce(_known_speaker, dialogues.c.speaker_count),
        _last.c.speaker_index,
        _last.c.text,
    )
    .outerjoin_from(dialogues, _last, true())
    .where(_IS_THE_DIALOGUE)
    .order_by(_last.c.index)
)

_spoke = bindparam("spoke", type_=Integer)
_GROW = (
    update(dialogues)
    .where(_IS_THE_DIALOGUE, dialogues.c.length == bindparam("place"))
    .values(
        length=dialogues.c.length + 1,
        speaker_count=case(
            (dialogues.c.speaker_count > _spoke, dialogues.c.speaker_count), else_=_spoke + 1
        ),
    )
)

_TIMELINE = (
    select(dialogues.c.created_at, *(utterances.c[name] for name in _FIELDS))
    .join_from(dialogues, utterances)
    .where(_IS_THE_DIALOGUE)
    .order_by(utterances.c.index)
)

_DELETE = delete(dialogues).where(_IS_THE_DIALOGUE)

_PING = select(dialogues.c.id).limit(1)
