"""Corrections of labels, and their delivery to the demonstration store.

The database comes first: what it has stored is said to be stored, and what the demonstrations are
still to be told is noted there. They are told at once, and where they do not answer, later: by
`service.dialogues.housekeeping`, which also begins with it when the service starts.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from service.admission.patience import to_the_end
from service.admission.shares import counted
from service.conversation.dialogue import Demonstration
from service.conversation.labels import AnyLabelSpace, LabelSpace, UnknownLabel
from service.demonstrations.encoder import Encoder
from service.demonstrations.store import Correction, DemonstrationStore
from service.dialogues.locks import NamedLocks
from service.errors import (
    DemonstrationNotFound,
    DemonstrationsUnavailable,
    InvalidLabel,
    TooManyDemonstrations,
)
from service.priority import Priority
from service.recognition.answering import Owned
from service.recognition.pipeline import DEGRADED_DEMONSTRATIONS, known_label_space
from service.recognition.retrieval import context_of
from service.sessions.answers import Once
from service.sessions.corrections import Corrected
from service.sessions.deliveries import Pending
from service.sessions.store import SessionStore
from service.sessions.versions import Expected

log = logging.getLogger(__name__)

# A correction does not wait longer to learn how many demonstrations there are.
_COUNT_S = 1.0
# Delivered one after the other, and read this many at a time.
_PORTION = 100


@dataclass(frozen=True, slots=True)
class Corrector:
    """Stores corrections, and keeps the demonstrations as they say.

    Attributes:
        label_spaces: every known one, by name. What is said in one that no model is trained on,
            such as a derived one, becomes no demonstration: no prompt could show it.
        locks: of demonstrations, one of which is written at a time.
        most_changes: how many writes a dialogue may have had for a label to be corrected.
        most_demonstrations: how many a tenant may have of its own.
        own: the label spaces of tenants' own; None: they have none.
        under_way: how many of a tenant's are being added.
    """

    label_spaces: Mapping[str, AnyLabelSpace]
    sessions: SessionStore
    store: DemonstrationStore
    encoder: Encoder
    locks: NamedLocks
    most_changes: int
    most_demonstrations: int
    own: Owned | None = None
    under_way: Counter[str] = field(default_factory=Counter)

    async def correct(
        self,
        tenant: str,
        dialogue_id: str,
        index: int,
        label_space: str,
        label: str,
        expected: Expected | None = None,
        once: Once[Corrected] | None = None,
    ) -> tuple[Corrected, tuple[str, ...]]:
        """Store what an utterance carries and make a demonstration of it.

        Returns what is stored, and the parts that did not answer and are told later.

        Args:
            once: the request's key and what it will be answered, where all parts answer.

        Raises:
            UnsupportedLabelSpace, InvalidLabel: unknown.
            DialogueNotFound, UtteranceNotFound: there is none.
            DialogueChanged: the dialogue is another than expected.
            DialogueFull: it has been written to as often as it may.
            TooManyDemonstrations: the tenant has as many as it may.
            AlreadyAnswered: the key has an answer.
            DatabaseUnavailable: nothing is stored.
        """
        found = None
        if self.own is not None and label_space.casefold() not in self.label_spaces:
            found = await self.own.described(tenant, label_space.casefold())
        space = found or known_label_space(self.label_spaces, label_space)
        try:
            name = space.label(label).name
        except UnknownLabel as error:
            raise InvalidLabel(str(error)) from None
        may_begin = await self._room(tenant) > 0
        with (
            counted(self.under_way, tenant, int(may_begin)),
            to_the_end(),
        ):  # what is stored is told
            stored = await self.sessions.corrections.put(
                tenant,
                dialogue_id,
                index,
                space.name,
                name,
                expected,
                once,
                most_changes=self.most_changes,
                may_begin=may_begin,
            )
            return stored, await self.deliver([stored.pending])

    @asynccontextmanager
    async def room(self, tenant: str, more: int) -> AsyncIterator[None]:
        """Room for so many more demonstrations of a tenant's, which are added inside the block.

        Those that replace others are counted as well; while the store does not answer, none are.

        Raises:
            TooManyDemonstrations: it may not have so many.
        """
        room = await self._room(tenant)
        if more > room:
            raise TooManyDemonstrations(
                f"there is room for {room} more demonstrations of yours, not for {more} "
                f"(limit {self.most_demonstrations})"
            )
        with counted(self.under_way, tenant, more):
            yield

    async def _room(self, tenant: str) -> int:
        try:
            async with asyncio.timeout(_COUNT_S):
                count = await self.store.count(tenant=tenant)
        except (DemonstrationsUnavailable, TimeoutError):
            return self.most_demonstrations
        return max(0, self.most_demonstrations - count - self.under_way[tenant])

    async def take_back(
        self,
        tenant: str,
        dialogue_id: str,
        index: int,
        expected: Expected | None = None,
        once: Once[None] | None = None,
    ) -> Corrected:
        """Forget what a person said that an utterance carries, and the demonstration with it.

        Raises:
            DialogueNotFound, UtteranceNotFound, CorrectionNotFound: there is none.
            DialogueChanged: the dialogue is another than expected.
            AlreadyAnswered: the key has an answer.
            DatabaseUnavailable: nothing is changed.
        """
        corrections = self.sessions.corrections
        with to_the_end():
            found = await corrections.remove(tenant, dialogue_id, index, expected, once)
            await self.deliver([found.pending])
        return found

    async def erase(
        self,
        tenant: str,
        dialogue_id: str,
        expected: Expected | None = None,
        once: Once[None] | None = None,
    ) -> None:
        """Erase a dialogue with all that belongs to it, the demonstrations made of it too.

        Those that were to go before and have not gone go with it: another process may have begun
        the erasure, or have taken a correction back, and have ended.

        Raises:
            As `SessionStore.delete`.
        """
        with to_the_end():
            await self.deliver(await self.sessions.delete(tenant, dialogue_id, expected, once))
            await self.deliver(await self.sessions.deliveries.unwanted(tenant))

    async def deliver(self, pending: Iterable[Pending]) -> tuple[str, ...]:
        """Have demonstrations as their corrections say; the parts that did not answer.

        Raises:
            DatabaseUnavailable: some are not delivered.
        """
        try:
            for each in pending:
                async with self.locks.of(each.tenant, each.demonstration_id):
                    await self._deliver(each)
        except DemonstrationsUnavailable as error:
            log.warning("corrections are to be delivered later: %s", error)
            return (DEGRADED_DEMONSTRATIONS,)
        return ()

    async def deliver_all(self) -> None:
        """Deliver whatever could not be delivered before, as far as that is possible now.

        Raises:
            DatabaseUnavailable: some are not delivered.
        """
        while found := await self.sessions.deliveries.pending(_PORTION):
            if await self.deliver(found) or len(found) < _PORTION:
                return

    def _is_shown(self, wanted: Demonstration) -> bool:
        return isinstance(self.label_spaces.get(wanted.label_space), LabelSpace)

    async def _deliver(self, pending: Pending) -> None:
        left: Pending | None = pending
        while left is not None:
            wanted = await self.sessions.deliveries.wanted(left)
            if wanted is not None and self._is_shown(wanted.demonstration):
                texts = (*wanted.before, wanted.demonstration.text)
                *before, vector = await asyncio.gather(
                    *(self.encoder.encode(text, Priority.INTERACTIVE) for text in texts)
                )
                correction = Correction(
                    wanted.demonstration, context_of(before), wanted.corrected_at.timestamp()
                )
                await self.store.add_correction(correction, vector, left.tenant)
            else:
                with suppress(DemonstrationNotFound):
                    await self.store.delete(left.demonstration_id, left.tenant)
            left = await self.sessions.deliveries.delivered(left)
