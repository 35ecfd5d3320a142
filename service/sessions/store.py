"""Reads and writes durable dialogues.

An append to a dialogue that has grown since it was read is refused (`Conflict`);
`service.dialogues.turns` takes the turns of a dialogue one after the other, and tries again.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from service.admission.deadline import to_the_end
from service.conversation.dialogue import Line
from service.errors import DialogueNotFound
from service.sessions import queries
from service.sessions.corrections import Corrections
from service.sessions.database import Database
from service.sessions.deliveries import Deliveries, Pending
from service.sessions.erasure import Erased
from service.sessions.followers import Followers
from service.sessions.idempotency import AnswerRow, Answers, Once
from service.sessions.overviews import Overviews
from service.sessions.postgresql_writer import PostgresqlWriter
from service.sessions.records import (
    Appended,
    Expected,
    Figures,
    StoredUtterance,
    Timeline,
    Version,
    correction_of,
    utterance_of,
)
from service.sessions.reviews import Reviews
from service.sessions.sqlite_writer import SqliteWriter
from service.sessions.tails import Tail, TailCache, read_end
from service.sessions.webhooks import WebhookRow, Webhooks
from service.sessions.writer import UtteranceRow, Writer

_ALL = 2**62  # lines; a statement needs a number


class Conflict(Exception):
    """The dialogue no longer ends where the writer saw its end; read its tail again and retry.

    Another writer appended first, or the dialogue was deleted. It never leaves the service: whoever
    appends retries, and says `DialogueBusy` when that does not help.
    """


class SessionStore:
    """The dialogues in one database, whose tables `migrate` has made.

    A dialogue belongs to a tenant, and its id is the tenant's own: two tenants may use the same id
    for two dialogues, and to one of them the other's does not exist.

    Every method raises `DatabaseUnavailable` when the database does not answer, and `ValueError`
    for a string that not every database can hold (a NUL character, a lone surrogate).
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = open_writer(database)
        self._tails = TailCache()
        self._pinging: asyncio.Task[None] | None = None
        self.followers = Followers(database)
        self.answers = Answers(database)
        self.corrections = Corrections(database, self.followers)
        self.deliveries = Deliveries(database)
        self.overviews = Overviews(database)
        self.reviews = Reviews(database)
        self.webhooks = Webhooks(database)

    async def tail(self, tenant: str, dialogue_id: str, speaker: str, lines: int) -> Tail:
        """The last `lines` utterances and the number of the speaker who comes next.

        It comes from memory where this store appended last, and may then be stale, as any tail is
        once another process has written: `append` refuses it, and the next one is read afresh. The
        cost does not grow with the dialogue's length.
        """
        _refuse_unstorable(tenant, dialogue_id, speaker)
        end = self._tails.find((tenant, dialogue_id))
        number = end.number_of(speaker) if end is not None and end.shows(lines) else None
        if end is None or number is None:
            erasures = self._tails.erasures
            end, number = await read_end(self._database, tenant, dialogue_id, speaker, lines)
            self._tails.keep((tenant, dialogue_id), end, erasures)
        return end.tail(tenant, dialogue_id, speaker, number, lines)

    async def stored_tail(self, tenant: str, dialogue_id: str, speaker: str, lines: int) -> Tail:
        """The tail as it is stored, for those who append nothing.

        It never comes from memory: a caller that does not append never learns that a tail is stale.
        Nor is it cached, since a turn under way may already have taken the dialogue further.

        Raises:
            DialogueNotFound: no dialogue has this id.
        """
        _refuse_unstorable(tenant, dialogue_id, speaker)
        end, number = await read_end(self._database, tenant, dialogue_id, speaker, lines)
        if not end.length:
            raise DialogueNotFound(f"no dialogue {dialogue_id!r}")
        return end.tail(tenant, dialogue_id, speaker, number, lines)

    async def append(
        self,
        tail: Tail,
        *,
        text: str,
        label_space: str,
        prediction: dict[str, Any],
        description: str | None = None,
        start: float | None = None,
        end: float | None = None,
        role: str | None = None,
        figures: Figures | None = None,
        expected: Version | None = None,
        once: Once[StoredUtterance] | None = None,
        webhooks: Sequence[WebhookRow] = (),
    ) -> Appended:
        """Store the tail's speaker's next utterance; on return it is on disk.

        The first utterance creates the dialogue.

        Args:
            tail: as `tail` gave it.
            text: the utterance's.
            label_space: the name of the label space of the prediction.
            prediction: any JSON object.
            description: what the scene looks like, where known.
            start, end: when it is spoken, in seconds from the dialogue's beginning, where known.
            role: the speaker's part in the dialogue, where known.
            figures: of the prediction; None: summaries and lists leave the utterance out.
            expected: the version that the dialogue must be of; None: any.
            once: the request's key and its answer, which is kept with the utterance.
            webhooks: of this utterance, which are stored with it.

        Raises:
            Conflict: the dialogue does not end where the tail does or is of another version, or the
                key has an answer; nothing is stored.
            ValueError: the prediction holds NaN or an infinity.
        """
        _refuse_unstorable(tail.tenant, tail.dialogue_id, tail.speaker, text, label_space)
        _refuse_unstorable(description or "", role or "")
        now = datetime.now(UTC)
        row = UtteranceRow(
            tenant=tail.tenant,
            dialogue_id=tail.dialogue_id,
            generation=tail.generation,
            expected=None if expected is None else expected.number,
            index=tail.length,
            speaker=tail.speaker,
            speaker_index=tail.speaker_index,
            text=text,
            label_space=label_space,
            prediction=json.dumps(prediction, allow_nan=False),  # SQLite would take a NaN
            created_at=now,
            description=description,
            start=start,
            end=end,
            role=role,
            label=None if figures is None else figures.label,
            probability=None if figures is None else figures.probability,
            valence=None if figures is None else figures.valence,
            margin=None if figures is None else figures.margin,
        )
        stored = StoredUtterance(
            index=tail.length,
            speaker=tail.speaker,
            speaker_index=tail.speaker_index,
            text=text,
            label_space=label_space,
            prediction=prediction,
            created_at=now,
            description=description,
            start=start,
            end=end,
            role=role,
        )
        answer = None if once is None else once.row(stored, tail.dialogue_id)
        number = await self._write(tail, row, expected, answer, webhooks)
        self.followers.notify(tail.tenant, tail.dialogue_id)
        return Appended(stored, Version(tail.generation, number))

    async def _write(
        self,
        tail: Tail,
        row: UtteranceRow,
        expected: Version | None,
        answer: AnswerRow | None,
        webhooks: Sequence[WebhookRow],
    ) -> int:
        """Write an utterance and cache the dialogue's new end; returns the version's number.

        Raises:
            Conflict: as `append`.
        """
        name, erasures = (tail.tenant, tail.dialogue_id), self._tails.erasures
        # Whatever goes wrong from here on, no end is cached that may be stale.
        end = self._tails.take(name, tail.generation, tail.length)
        if expected is not None and expected.generation != tail.generation:
            raise Conflict(f"dialogue {tail.dialogue_id!r} was erased and created anew")
        with self._database.answering():
            number = await self._writer.append(row, answer, webhooks)
        if number is None:
            if end is not None and erasures == self._tails.erasures:
                self._tails.distrust()
            raise Conflict(f"dialogue {tail.dialogue_id!r} no longer ends before {tail.length}")
        if end is not None:
            line = Line(tail.speaker_index, row["text"])
            self._tails.keep(name, end.grown(tail.speaker, line), erasures)
        return number

    async def timeline(
        self, tenant: str, dialogue_id: str, after: int = -1, limit: int = _ALL
    ) -> Timeline:
        """A dialogue: its first `limit` utterances whose index is above `after`.

        Raises:
            DialogueNotFound: no dialogue has this id.
        """
        _refuse_unstorable(tenant, dialogue_id)
        values = {"tenant": tenant, "dialogue_id": dialogue_id, "after": after, "limit": limit}
        rows = await self._database.fetch(queries.TIMELINE, values)
        if not rows:
            raise DialogueNotFound(f"no dialogue {dialogue_id!r}")
        dialogue = rows[0]
        return Timeline(
            dialogue_id,
            dialogue.dialogue_created_at,
            Version(dialogue.generation, dialogue.number),
            dialogue.length,
            # A dialogue without utterances to show is one row whose utterance is null.
            tuple(utterance_of(row, correction_of(row)) for row in rows if row.text is not None),
        )

    async def version(self, tenant: str, dialogue_id: str) -> Version | None:
        """The dialogue's version; None: there is no dialogue."""
        _refuse_unstorable(tenant, dialogue_id)
        values = {"tenant": tenant, "dialogue_id": dialogue_id}
        rows = await self._database.fetch(queries.VERSION, values)
        return Version(**rows[0]._asdict()) if rows else None

    async def delete(
        self,
        tenant: str,
        dialogue_id: str,
        expected: Expected | None = None,
        once: Once[None] | None = None,
    ) -> tuple[Pending, ...]:
        """Erase a dialogue with its utterances, predictions, corrections and kept answers.

        A long one goes in portions, from its end, so that other writers get in between; once begun
        it is erased whole, also where the caller is cancelled. `docs/erasure.md` says what is left
        where, and for how long.

        Returns the demonstrations made of it, which are to go too.

        Args:
            expected: what the dialogue must be; None: anything.
            once: the request's key and its answer, which is kept.

        Raises:
            DialogueNotFound: no dialogue has this id.
            DialogueChanged: it is another than expected; nothing is erased.
            AlreadyAnswered: the key has an answer.
        """
        _refuse_unstorable(tenant, dialogue_id)
        answer = None if once is None else once.row(None)
        while True:
            version = await self._expected(tenant, dialogue_id, expected, once)
            self._tails.erase((tenant, dialogue_id))  # so that no turn begins with it
            try:
                with to_the_end():
                    deleted = await self._database.whole(
                        self._erase(tenant, dialogue_id, version, answer)
                    )
            finally:
                self._tails.erase((tenant, dialogue_id))  # turns under way may have read it
            if deleted is not None:
                self.followers.notify(tenant, dialogue_id)
                return deleted.pending
            await self.answers.raise_if_answered(once)
            if expected is None:
                raise DialogueNotFound(f"no dialogue {dialogue_id!r}")

    async def _erase(
        self,
        tenant: str,
        dialogue_id: str,
        expected: Version | None,
        answer: AnswerRow | None,
    ) -> Erased | None:
        async def portion(generation: int | None, number: int | None) -> Erased | None:
            with self._database.answering():
                return await self._writer.erase_portion(
                    tenant, dialogue_id, generation, number, answer
                )

        if expected is None:
            step = await portion(None, None)
        else:
            step = await portion(expected.generation, expected.number)
        if step is None:
            return None
        pending = step.pending
        async with self._database.erasing():
            while not step.whole:
                # Each portion makes another version of it.
                step = await portion(step.generation, None)
                if step is None:  # another process has erased the rest
                    return None
                pending += step.pending
        return replace(step, pending=pending)

    async def erase_before(self, moment: datetime, limit: int) -> list[Erased]:
        """Erase, as `delete` does, some of the dialogues last written before a moment.

        The oldest go first, at most `limit` of them, and fewer where they are long. Of a dialogue
        that is not erased `whole` there is a rest.
        """
        with self._database.answering():
            erased = await self._writer.erase_before(moment, limit)
        for each in erased:
            self._tails.erase((each.tenant, each.dialogue_id))
            self.followers.notify(each.tenant, each.dialogue_id)
        if erased:
            async with self._database.erasing():
                pass
        return erased

    async def empty_log(self) -> None:
        """Call `Database.empty_log`."""
        await self._database.empty_log()

    def forget_idle(self) -> None:
        """Call `TailCache.forget_idle`."""
        self._tails.forget_idle()

    async def count_changed_since(self, moment: datetime) -> int:
        """The number of dialogues, of all tenants, last written at a moment or later."""
        rows = await self._database.fetch(queries.CHANGED_SINCE, {"moment": moment})
        return int(rows[0][0])

    async def _expected(
        self,
        tenant: str,
        dialogue_id: str,
        expected: Expected | None,
        once: Once[None] | None,
    ) -> Version | None:
        """The version of a dialogue that is as expected; None: anything is."""
        if expected is None:
            return None
        version = await self.version(tenant, dialogue_id)
        if version is None or not expected.allows(version):
            await self.answers.raise_if_answered(once)
        if version is None:
            raise DialogueNotFound(f"no dialogue {dialogue_id!r}")
        expected.check(version)
        return version

    async def ping(self) -> None:
        """Check that the database answers, has the tables, and lets this process write.

        Concurrent calls share one check: anybody may ask for it, without a key.
        """
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ping())
        await asyncio.shield(self._pinging)

    async def _ping(self) -> None:
        await self._database.fetch(queries.PING)
        with self._database.answering():
            await self._writer.ping()

    async def close(self) -> None:
        """Wait for the work under way, then close the connections to the database."""
        await self.followers.close()
        await self._database.settle()  # an erasure under way needs the writer
        await self._writer.close()
        await self._database.close()


def open_writer(database: Database) -> Writer:
    """The writer for this kind of database."""
    return SqliteWriter(database) if database.dialect == "sqlite" else PostgresqlWriter(database)


def _refuse_unstorable(*strings: str) -> None:
    for string in strings:
        if "\0" in string:
            raise ValueError("a NUL character cannot be stored")
        string.encode()  # a lone surrogate: UnicodeEncodeError, which is a ValueError
