"""What people say that utterances carry, and which demonstrations are still to be told.

A correction is stored with a note that its demonstration is to be delivered, in one transaction.
The note says only that something changed: whoever delivers reads what the correction says by then,
so a note may be delivered twice, and late, and a crash in between costs nothing.
"""

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import and_, bindparam, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.conversation.dialogue import Demonstration
from service.conversation.neighbours import CONTEXT_LINES
from service.errors import (
    CorrectionNotFound,
    DialogueChanged,
    DialogueFull,
    DialogueNotFound,
    TooManyDemonstrations,
    UtteranceNotFound,
)
from service.sessions.answers import AlreadyAnswered, Answers, KeyTaken, Once, keep
from service.sessions.database import Database, Work
from service.sessions.erasure import Pending
from service.sessions.following import Followed
from service.sessions.queries import IS_WHOLE
from service.sessions.records import Correction
from service.sessions.schema import (
    changes,
    corrections,
    deliveries,
    dialogues,
    utterances,
)
from service.sessions.versions import Expected, Version


def _new_demonstration_id() -> str:
    return f"correction-{uuid4().hex}"


def is_of_correction(demonstration_id: str) -> bool:
    """Whether a demonstration has an id such as corrections give theirs."""
    return re.fullmatch(r"correction-[0-9a-f]{32}", demonstration_id) is not None


@dataclass(frozen=True, slots=True)
class WantedDemonstration:
    """The demonstration of a correction.

    Attributes:
        before: the texts of the lines before the utterance that are its context.
        said_at: when it was corrected, in UTC.
    """

    demonstration: Demonstration
    before: tuple[str, ...]
    said_at: datetime


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a change left behind.

    Attributes:
        correction: as it is stored; None: it was taken back.
        version: the dialogue's.
        pending: what is to be delivered.
        prediction: what was predicted of the utterance, where a person said something new of it.
    """

    correction: Correction | None
    version: Version
    pending: Pending
    prediction: dict[str, Any] | None = None


class Corrections:
    """The corrections in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, followed: Followed) -> None:
        self._database = database
        self._followed = followed
        self._answers = Answers(database)

    async def put(
        self,
        tenant: str,
        dialogue_id: str,
        index: int,
        label_space: str,
        label: str,
        expected: Expected | None = None,
        once: Once[Corrected] | None = None,
        *,
        most_changes: int | None = None,
        may_begin: bool = True,
    ) -> Corrected:
        """Store what an utterance carries, in place of what was said of it before.

        What is said already changes nothing, but is noted for delivery again.

        Args:
            once: the request's key and what it will be answered, which is kept.
            most_changes: how many writes a dialogue may have had for another one to be taken.
            may_begin: an utterance may be corrected that has not been before.

        Raises:
            DialogueNotFound, UtteranceNotFound: there is none.
            DialogueChanged: the dialogue is another than expected.
            DialogueFull: it has been written to as often as it may be.
            TooManyDemonstrations: the utterance has not been corrected before, and may not be.
            AlreadyAnswered: the key has an answer.
        """

        async def put(connection: AsyncConnection) -> Corrected:
            version = await _lock(connection, tenant, dialogue_id, index, expected)
            before = await _read(connection, tenant, dialogue_id, index)
            now = datetime.now(UTC)
            found = Correction(label_space, label, now)
            if before is not None:
                said, demonstration_id = before
                if (said.label_space, said.label) == (label_space, label):
                    pending = await _note(connection, tenant, demonstration_id)
                    return Corrected(said, version, pending)
            if most_changes is not None and version.number >= most_changes:
                raise DialogueFull(
                    f"dialogue {dialogue_id!r} has been written to {version.number} times "
                    f"(limit {most_changes})"
                )
            if before is None:
                if not may_begin:
                    raise TooManyDemonstrations(
                        "you have as many demonstrations, corrections among them, as you may"
                    )
                demonstration_id = _new_demonstration_id()
                await connection.execute(
                    insert(corrections).values(
                        tenant=tenant,
                        dialogue_id=dialogue_id,
                        index=index,
                        label_space=label_space,
                        label=label,
                        created_at=now,
                        demonstration_id=demonstration_id,
                    )
                )
            else:
                await connection.execute(
                    update(corrections)
                    .where(_is_of(tenant, dialogue_id, index))
                    .values(label_space=label_space, label=label, created_at=now)
                )
            version = await _change(connection, tenant, dialogue_id, version, index, found, now)
            pending = await _note(connection, tenant, demonstration_id)
            asked = select(utterances.c.prediction).where(
                utterances.c.tenant == tenant,
                utterances.c.dialogue_id == dialogue_id,
                utterances.c.index == index,
            )
            prediction = (await connection.execute(asked)).scalar_one()
            return Corrected(found, version, pending, prediction)

        async def put_and_keep(connection: AsyncConnection) -> Corrected:
            corrected = await put(connection)
            await keep(connection, once, corrected, dialogue_id)
            return corrected

        corrected = await self._once(put_and_keep, once)
        self._followed.tell(tenant, dialogue_id)
        return corrected

    async def remove(
        self,
        tenant: str,
        dialogue_id: str,
        index: int,
        expected: Expected | None = None,
        once: Once[None] | None = None,
    ) -> Corrected:
        """Take back what was said of an utterance.

        Args:
            once: the request's key and what it will be answered, which is kept.

        Raises:
            DialogueNotFound, UtteranceNotFound, CorrectionNotFound: there is none.
            DialogueChanged: the dialogue is another than expected.
            AlreadyAnswered: the key has an answer.
        """

        async def take_back(connection: AsyncConnection) -> Corrected:
            version = await _lock(connection, tenant, dialogue_id, index, expected)
            before = await _read(connection, tenant, dialogue_id, index)
            if before is None:
                raise CorrectionNotFound(f"utterance {index} of {dialogue_id!r} has no correction")
            await connection.execute(delete(corrections).where(_is_of(tenant, dialogue_id, index)))
            now = datetime.now(UTC)
            version = await _change(connection, tenant, dialogue_id, version, index, None, now)
            pending = await _note(connection, tenant, before[1])
            await keep(connection, once, None)
            return Corrected(None, version, pending)

        corrected = await self._once(take_back, once)
        self._followed.tell(tenant, dialogue_id)
        return corrected

    async def _once(self, work: Work[Corrected], once: Once[Any] | None) -> Corrected:
        try:
            return await self._database.transaction(work)
        except (DialogueNotFound, CorrectionNotFound, DialogueChanged, KeyTaken):
            # Another process may have done what is asked here.
            found = None if once is None else await self._answers.find(once.key)
            if found is None:
                raise
            raise AlreadyAnswered(found) from None

    async def count_pending(self) -> int:
        """How many demonstrations are to be delivered."""
        rows = await self._database.fetch(select(func.count()).select_from(deliveries))
        return int(rows[0][0])

    async def pending(self, limit: int) -> list[Pending]:
        """At most so many of the demonstrations that are to be delivered."""
        asked = select(deliveries.c.tenant, deliveries.c.demonstration_id, deliveries.c.mark)
        return [Pending(*row) for row in await self._database.fetch(asked.limit(limit))]

    async def unwanted(self, tenant: str) -> list[Pending]:
        """The demonstrations of a tenant's that are to go: their corrections have gone."""
        asked = (
            select(deliveries.c.tenant, deliveries.c.demonstration_id, deliveries.c.mark)
            .outerjoin(
                corrections,
                and_(
                    corrections.c.tenant == deliveries.c.tenant,
                    corrections.c.demonstration_id == deliveries.c.demonstration_id,
                ),
            )
            .where(deliveries.c.tenant == tenant, corrections.c.demonstration_id.is_(None))
        )
        return [Pending(*row) for row in await self._database.fetch(asked)]

    async def wanted(self, pending: Pending) -> WantedDemonstration | None:
        """The demonstration as the correction says it now; None: there is to be none."""
        asked = (
            select(
                corrections.c.label_space,
                corrections.c.label,
                corrections.c.created_at,
                utterances.c.text,
            )
            .join_from(
                corrections,
                utterances,
                and_(
                    utterances.c.tenant == corrections.c.tenant,
                    utterances.c.dialogue_id == corrections.c.dialogue_id,
                    utterances.c.index <= corrections.c.index,
                    utterances.c.index >= corrections.c.index - CONTEXT_LINES,
                ),
            )
            .where(
                corrections.c.tenant == pending.tenant,
                corrections.c.demonstration_id == pending.demonstration_id,
            )
            .order_by(utterances.c.index)
        )
        rows = await self._database.fetch(asked)
        if not rows:
            return None
        *before, (label_space, label, said_at, text) = rows
        return WantedDemonstration(
            Demonstration(pending.demonstration_id, label_space, label, text),
            tuple(row.text for row in before),
            said_at,
        )

    async def delivered(self, pending: Pending) -> Pending | None:
        """Note that a demonstration is as it was wanted; what is to be delivered instead, if any.

        It may have been noted again meanwhile. Or another process has delivered it, perhaps as it
        was wanted later, and was then overtaken: it is noted anew.
        """
        is_the_delivery = and_(
            deliveries.c.tenant == pending.tenant,
            deliveries.c.demonstration_id == pending.demonstration_id,
        )
        done = delete(deliveries).where(is_the_delivery, deliveries.c.mark == pending.mark)

        async def deliver(connection: AsyncConnection) -> Pending | None:
            if (await connection.execute(done)).rowcount == 1:
                return None
            asked = select(deliveries.c.mark).where(is_the_delivery)
            mark = (await connection.execute(asked)).scalar_one_or_none()
            if mark is None:
                return await _note(connection, pending.tenant, pending.demonstration_id)
            return Pending(pending.tenant, pending.demonstration_id, mark)

        return await self._database.run(deliver)


def _is_of(tenant: str, dialogue_id: str, index: int) -> Any:
    return and_(
        corrections.c.tenant == tenant,
        corrections.c.dialogue_id == dialogue_id,
        corrections.c.index == index,
    )


async def _lock(
    connection: AsyncConnection,
    tenant: str,
    dialogue_id: str,
    index: int,
    expected: Expected | None,
) -> Version:
    """Keep other writers of the dialogue waiting until the transaction ends; its version."""
    is_the_dialogue = and_(dialogues.c.tenant == tenant, dialogues.c.id == dialogue_id)
    columns = (dialogues.c.generation, dialogues.c.version, dialogues.c.length)
    asked = select(*columns).where(is_the_dialogue, IS_WHOLE).with_for_update()
    row = (await connection.execute(asked)).one_or_none()
    if row is None:
        raise DialogueNotFound(f"no dialogue {dialogue_id!r}")
    generation, number, length = row
    version = Version(generation, number)
    if expected is not None:
        expected.check(version)
    if not 0 <= index < length:
        raise UtteranceNotFound(f"dialogue {dialogue_id!r} has {length} utterances, no {index}")
    return version


async def _read(
    connection: AsyncConnection, tenant: str, dialogue_id: str, index: int
) -> tuple[Correction, str] | None:
    columns = (
        corrections.c.label_space,
        corrections.c.label,
        corrections.c.created_at,
        corrections.c.demonstration_id,
    )
    asked = select(*columns).where(_is_of(tenant, dialogue_id, index))
    row = (await connection.execute(asked)).one_or_none()
    return None if row is None else (Correction(*row[:3]), row[3])


async def _change(
    connection: AsyncConnection,
    tenant: str,
    dialogue_id: str,
    version: Version,
    index: int,
    correction: Correction | None,
    now: datetime,
) -> Version:
    """Make another version of the dialogue, and note what its correction has become with it."""
    is_the_dialogue = and_(dialogues.c.tenant == tenant, dialogues.c.id == dialogue_id)
    await connection.execute(
        update(dialogues).where(is_the_dialogue).values(version=version.number + 1, changed_at=now)
    )
    await connection.execute(
        insert(changes).values(
            tenant=tenant,
            dialogue_id=dialogue_id,
            version=version.number + 1,
            index=index,
            label_space=correction and correction.label_space,
            label=correction and correction.label,
            created_at=now,
        )
    )
    return Version(version.generation, version.number + 1)


async def _note(connection: AsyncConnection, tenant: str, demonstration_id: str) -> Pending:
    """Note that a demonstration is to be delivered."""
    pending = Pending(tenant, demonstration_id, secrets.randbits(63))
    await connection.execute(
        _NOTE,
        {"tenant": tenant, "demonstration_id": demonstration_id, "mark": pending.mark},
    )
    return pending


_NOTE = text(
    """INSERT INTO deliveries (tenant, demonstration_id, mark)
    VALUES (:tenant, :demonstration_id, :mark)
    ON CONFLICT (tenant, demonstration_id) DO UPDATE SET mark = excluded.mark"""
).bindparams(*(bindparam(column.name, type_=column.type) for column in deliveries.c))
