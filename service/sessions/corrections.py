"""The labels that people give utterances instead of the predicted ones.

A correction is stored with a note that its demonstration is to be delivered, in one transaction.
"""

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Table, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import (
    CorrectionNotFound,
    DialogueChanged,
    DialogueFull,
    DialogueNotFound,
    TooManyDemonstrations,
    UtteranceNotFound,
)
from service.sessions.database import Database, Work
from service.sessions.deliveries import Pending, note
from service.sessions.followers import Followers
from service.sessions.idempotency import Answers, KeyTaken, Once, keep
from service.sessions.progress import count_corrected
from service.sessions.queries import IS_WHOLE
from service.sessions.records import Correction, Expected, Version
from service.sessions.schema import changes, corrections, dialogues, utterances
from service.sessions.tallies import sum_up


def is_of_correction(demonstration_id: str) -> bool:
    """Whether a demonstration has an id such as corrections give theirs."""
    return re.fullmatch(r"correction-[0-9a-f]{32}", demonstration_id) is not None


@dataclass(frozen=True, slots=True)
class Corrected:
    """The outcome of a correction.

    Attributes:
        correction: as it is stored.
        version: the dialogue's.
        pending: what is to be delivered.
        prediction: the utterance's, where the correction is new.
    """

    correction: Correction
    version: Version
    pending: Pending
    prediction: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The outcome of taking a correction back; fields as of `Corrected`."""

    version: Version
    pending: Pending


_Outcome = TypeVar("_Outcome", Corrected, TakenBack)


class Corrections:
    """The corrections in one database; every method raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, followers: Followers) -> None:
        self._database = database
        self._followers = followers
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
        valence: int | None = None,
        most_changes: int | None = None,
        may_begin: bool = True,
    ) -> Corrected:
        """Store an utterance's correction, in place of the one there is.

        One that is stored already changes nothing, but is noted for delivery again.

        Args:
            once: the request's key and what it will be answered, which is kept.
            valence: the label's, in millionths; None: its label space has none.
            most_changes: how many writes a dialogue may have had for another one to be taken.
            may_begin: an utterance may be corrected that has not been before.

        Raises:
            DialogueNotFound, UtteranceNotFound: there is none.
            DialogueChanged: the dialogue is another than expected.
            DialogueFull: it has been written to as often as it may be.
            TooManyDemonstrations: the utterance has not been corrected before, and may not be.
            AlreadyAnswered: the key has an answer.
        """
        place = _Place(tenant, dialogue_id, index)

        async def put(connection: AsyncConnection) -> Corrected:
            version = await _lock(connection, place, expected)
            stored = await _find(connection, place)
            if stored is not None and stored.says(label_space, label):
                pending = await note(connection, tenant, stored.demonstration_id)
                return Corrected(stored.correction, version, pending)
            _check_room(dialogue_id, version, most_changes)
            if stored is None and not may_begin:
                raise TooManyDemonstrations(
                    "you have reached the limit of demonstrations, corrections included"
                )
            now = datetime.now(UTC)
            correction = Correction(label_space, label, now)
            demonstration_id = await _store(connection, place, correction, valence, stored)
            version = await _change(connection, place, version, correction, now)
            pending = await note(connection, tenant, demonstration_id)
            prediction = await _prediction(connection, place)
            await _mark(connection, place, corrected=True)
            return Corrected(correction, version, pending, prediction)

        async def put_and_keep(connection: AsyncConnection) -> Corrected:
            corrected = await put(connection)
            await keep(connection, once, corrected, dialogue_id)
            return corrected

        corrected = await self._once(put_and_keep, once)
        self._followers.notify(tenant, dialogue_id)
        return corrected

    async def remove(
        self,
        tenant: str,
        dialogue_id: str,
        index: int,
        expected: Expected | None = None,
        once: Once[None] | None = None,
    ) -> TakenBack:
        """Take an utterance's correction back.

        Args:
            once: the request's key and what it will be answered, which is kept.

        Raises:
            DialogueNotFound, UtteranceNotFound, CorrectionNotFound: there is none.
            DialogueChanged: the dialogue is another than expected.
            AlreadyAnswered: the key has an answer.
        """
        place = _Place(tenant, dialogue_id, index)

        async def take_back(connection: AsyncConnection) -> TakenBack:
            version = await _lock(connection, place, expected)
            stored = await _find(connection, place)
            if stored is None:
                raise CorrectionNotFound(f"utterance {index} of {dialogue_id!r} has no correction")
            await connection.execute(delete(corrections).where(place.is_of(corrections)))
            version = await _change(connection, place, version, None, datetime.now(UTC))
            pending = await note(connection, tenant, stored.demonstration_id)
            await _mark(connection, place, corrected=False)
            await keep(connection, once, None)
            return TakenBack(version, pending)

        taken_back = await self._once(take_back, once)
        self._followers.notify(tenant, dialogue_id)
        return taken_back

    async def _once(self, work: Work[_Outcome], once: Once[Any] | None) -> _Outcome:
        try:
            return await self._database.transaction(work)
        except (DialogueNotFound, CorrectionNotFound, DialogueChanged, KeyTaken):
            # Another process may have done what is asked here.
            await self._answers.raise_if_answered(once)
            raise


@dataclass(frozen=True, slots=True)
class _Place:
    """The position of an utterance: its tenant, dialogue and index."""

    tenant: str
    dialogue_id: str
    index: int

    @property
    def is_the_dialogue(self) -> ColumnElement[bool]:
        return and_(dialogues.c.tenant == self.tenant, dialogues.c.id == self.dialogue_id)

    def is_of(self, table: Table) -> ColumnElement[bool]:
        """Whether a row of a table is the utterance's."""
        return and_(
            table.c.tenant == self.tenant,
            table.c.dialogue_id == self.dialogue_id,
            table.c.index == self.index,
        )


@dataclass(frozen=True, slots=True)
class _StoredCorrection:
    correction: Correction
    demonstration_id: str

    def says(self, label_space: str, label: str) -> bool:
        return (self.correction.label_space, self.correction.label) == (label_space, label)


def _check_room(dialogue_id: str, version: Version, most_changes: int | None) -> None:
    if most_changes is not None and version.number >= most_changes:
        raise DialogueFull(
            f"dialogue {dialogue_id!r} has been written to {version.number} times "
            f"(limit {most_changes})"
        )


async def _lock(connection: AsyncConnection, place: _Place, expected: Expected | None) -> Version:
    """Keep other writers of the dialogue waiting until the transaction ends; its version."""
    columns = (dialogues.c.generation, dialogues.c.version, dialogues.c.length)
    statement = select(*columns).where(place.is_the_dialogue, IS_WHOLE).with_for_update()
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise DialogueNotFound(f"no dialogue {place.dialogue_id!r}")
    version = Version(row.generation, row.version)
    if expected is not None:
        expected.check(version)
    if not 0 <= place.index < row.length:
        raise UtteranceNotFound(
            f"dialogue {place.dialogue_id!r} has {row.length} utterances, but none with index "
            f"{place.index}"
        )
    return version


async def _find(connection: AsyncConnection, place: _Place) -> _StoredCorrection | None:
    statement = select(corrections).where(place.is_of(corrections))
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        return None
    correction = Correction(row.label_space, row.label, row.created_at)
    return _StoredCorrection(correction, row.demonstration_id)


async def _store(
    connection: AsyncConnection,
    place: _Place,
    correction: Correction,
    valence: int | None,
    replaced: _StoredCorrection | None,
) -> str:
    """Store a correction, in place of the one there is; the id of its demonstration."""
    if replaced is not None:
        statement = update(corrections).where(place.is_of(corrections))
        await connection.execute(statement.values(asdict(correction) | {"valence": valence}))
        return replaced.demonstration_id
    demonstration_id = f"correction-{uuid4().hex}"
    row = {**asdict(place), **asdict(correction), "valence": valence}
    row["demonstration_id"] = demonstration_id
    await connection.execute(insert(corrections).values(row))
    return demonstration_id


async def _mark(connection: AsyncConnection, place: _Place, *, corrected: bool) -> None:
    """Note, at the utterance and in the counts, whether it has a correction.

    Late in the transaction, because others wait for the counts. A process of a version before the
    counts, which may run beside this one during an upgrade, corrects without noting it.
    """
    is_other = utterances.c.corrected.is_not(corrected)
    statement = update(utterances).where(place.is_of(utterances), is_other)
    marked = statement.values(corrected=corrected).returning(
        utterances.c.label_space, utterances.c.margin
    )
    row = (await connection.execute(marked)).one_or_none()
    if row is not None and row.margin is not None:
        more = 1 if corrected else -1
        await count_corrected(connection, place.tenant, row.label_space, place.dialogue_id, more)


async def _change(
    connection: AsyncConnection,
    place: _Place,
    version: Version,
    correction: Correction | None,
    now: datetime,
) -> Version:
    """Make another version of the dialogue, and record what its correction becomes with it.

    The correction is stored or taken back already: the dialogue's sums take it into account.
    """
    number = version.number + 1
    statement = update(dialogues).where(place.is_the_dialogue)
    await connection.execute(statement.values(version=number, changed_at=now))
    await sum_up(connection, place.tenant, place.dialogue_id)
    change = {
        **asdict(place),
        "version": number,
        "label_space": correction and correction.label_space,
        "label": correction and correction.label,
        "created_at": now,
    }
    await connection.execute(insert(changes).values(change))
    return Version(version.generation, number)


async def _prediction(connection: AsyncConnection, place: _Place) -> dict[str, Any]:
    statement = select(utterances.c.prediction).where(place.is_of(utterances))
    prediction: dict[str, Any] = (await connection.execute(statement)).scalar_one()
    return prediction
