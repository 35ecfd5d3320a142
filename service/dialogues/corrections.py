"""Corrections of labels, and their delivery to the demonstration store.

The database comes first: a correction counts as stored once it is in the database, which also
records what is still to be delivered to the demonstration store. Delivery is tried at once and, if
the store is unavailable, later by `service.dialogues.housekeeping`, which also starts with it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from service.admission.deadline import to_the_end
from service.admission.shares import counted
from service.concurrency import NamedLocks
from service.conversation.dialogue import Demonstration
from service.conversation.labels import AnyLabelSpace, LabelSpace, UnknownLabel
from service.conversation.valence import Valences
from service.demonstrations.encoder import Encoder
from service.demonstrations.store import Correction, DemonstrationStore
from service.errors import (
    DemonstrationNotFound,
    DemonstrationsUnavailable,
    InvalidLabel,
    TooManyDemonstrations,
)
from service.priority import Priority
from service.recognition.answering import OwnLabelSpaceSource
from service.recognition.result import DEGRADED_DEMONSTRATIONS
from service.recognition.retrieval import context_of
from service.recognition.supported import known_label_space
from service.sessions.corrections import Corrected, TakenBack
from service.sessions.deliveries import Pending
from service.sessions.idempotency import Once
from service.sessions.records import Expected
from service.sessions.store import SessionStore

log = logging.getLogger(__name__)

# The longest wait for the count of demonstrations.
_COUNT_S = 1.0
# How many pending deliveries are read at a time.
_PORTION = 100


@dataclass(frozen=True, slots=True)
class Corrector:
    """Stores corrections, and keeps the demonstrations consistent with them.

    Attributes:
        label_spaces: every known one, by name. A correction in one that no model is trained on,
            such as a derived one, does not become a demonstration: no prompt could show it.
        locks: locks of demonstrations, so that each is written by one task at a time.
        valences: of labels, for summaries.
        most_changes: from this many writes on, labels of a dialogue cannot be corrected.
        most_demonstrations: how many demonstrations of its own a tenant may have.
        own: tenants' own label spaces; None: there are none.
        under_way: how many demonstrations are being added, by tenant.
    """

    label_spaces: Mapping[str, AnyLabelSpace]
    sessions: SessionStore
    store: DemonstrationStore
    encoder: Encoder
    locks: NamedLocks
    valences: Valences
    most_changes: int
    most_demonstrations: int
    own: OwnLabelSpaceSource | None = None
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
        """Store a label for an utterance and make a demonstration of it.

        Args:
            once: the request's idempotency key and its response, where all parts are available.

        Returns:
            What is stored, and the unavailable parts, to which it is delivered later.

        Raises:
            UnsupportedLabelSpace, InvalidLabel: the label space or the label is unknown.
            DialogueNotFound, UtteranceNotFound: it does not exist.
            DialogueChanged: the dialogue's version is not the expected one.
            DialogueFull: the dialogue has reached its limit of writes.
            TooManyDemonstrations: the tenant has reached its limit.
            AlreadyAnswered: the key already has a response.
            DatabaseUnavailable: nothing is stored.
        """
        space = await self.label_space(tenant, label_space)
        try:
            name = space.label(label).name
        except UnknownLabel as error:
            raise InvalidLabel(str(error)) from None
        may_begin = await self._room(tenant) > 0
        with (
            counted(self.under_way, tenant, int(may_begin)),
            to_the_end(),
        ):  # what is stored is also delivered
            stored = await self.sessions.corrections.put(
                tenant,
                dialogue_id,
                index,
                space.name,
                name,
                expected,
                once,
                valence=self.valences.of_label(space.name, name),
                most_changes=self.most_changes,
                may_begin=may_begin,
            )
            return stored, await self.deliver([stored.pending])

    async def label_space(self, tenant: str, name: str) -> AnyLabelSpace:
        """A label space that labels can be in: a known one, or one of the tenant's own.

        Raises:
            UnsupportedLabelSpace: there is none with this name.
            DatabaseUnavailable: the tenant's own cannot be looked up.
        """
        own_space = None
        if self.own is not None and name.casefold() not in self.label_spaces:
            own_space = await self.own.described(tenant, name.casefold())
        return own_space or known_label_space(self.label_spaces, name)

    @asynccontextmanager
    async def room(self, tenant: str, count: int) -> AsyncIterator[None]:
        """Reserve room for demonstrations of a tenant, which are added inside the block.

        Those that replace others count, too; while the store is unavailable, none do.

        Raises:
            TooManyDemonstrations: they would exceed the tenant's limit.
        """
        room = await self._room(tenant)
        if count > room:
            raise TooManyDemonstrations(
                f"you can add {room} more demonstrations, not {count} (limit "
                f"{self.most_demonstrations})"
            )
        with counted(self.under_way, tenant, count):
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
    ) -> TakenBack:
        """Remove the correction of an utterance, and its demonstration.

        Raises:
            DialogueNotFound, UtteranceNotFound, CorrectionNotFound: it does not exist.
            DialogueChanged: the dialogue's version is not the expected one.
            AlreadyAnswered: the key already has a response.
            DatabaseUnavailable: nothing is changed.
        """
        corrections = self.sessions.corrections
        with to_the_end():
            taken_back = await corrections.remove(tenant, dialogue_id, index, expected, once)
            await self.deliver([taken_back.pending])
        return taken_back

    async def erase(
        self,
        tenant: str,
        dialogue_id: str,
        expected: Expected | None = None,
        once: Once[None] | None = None,
    ) -> None:
        """Erase a dialogue with everything that belongs to it, including its demonstrations.

        Demonstrations that should have been deleted earlier are deleted, too: another process may
        have stopped after it began the erasure or removed a correction.

        Raises:
            As `SessionStore.delete`.
        """
        with to_the_end():
            await self.deliver(await self.sessions.delete(tenant, dialogue_id, expected, once))
            await self.deliver(await self.sessions.deliveries.unwanted(tenant))

    async def deliver(self, pending: Iterable[Pending]) -> tuple[str, ...]:
        """Update demonstrations to match their corrections.

        Returns:
            The unavailable parts.

        Raises:
            DatabaseUnavailable: some are not delivered.
        """
        try:
            for delivery in pending:
                async with self.locks.of(delivery.tenant, delivery.demonstration_id):
                    await self._deliver(delivery)
        except DemonstrationsUnavailable as error:
            log.warning("corrections will be delivered later: %s", error)
            return (DEGRADED_DEMONSTRATIONS,)
        return ()

    async def deliver_all(self) -> None:
        """Deliver what could not be delivered before, as far as possible.

        Raises:
            DatabaseUnavailable: some are not delivered.
        """
        while pending := await self.sessions.deliveries.pending(_PORTION):
            if await self.deliver(pending) or len(pending) < _PORTION:
                return

    def _is_shown(self, demonstration: Demonstration) -> bool:
        return isinstance(self.label_spaces.get(demonstration.label_space), LabelSpace)

    async def _deliver(self, pending: Pending) -> None:
        remaining: Pending | None = pending
        while remaining is not None:
            target = await self.sessions.deliveries.wanted(remaining)
            if target is not None and self._is_shown(target.demonstration):
                texts = (*target.before, target.demonstration.text)
                *before, vector = await asyncio.gather(
                    *(self.encoder.encode(text, Priority.INTERACTIVE) for text in texts)
                )
                correction = Correction(
                    target.demonstration, context_of(before), target.corrected_at.timestamp()
                )
                await self.store.add_correction(correction, vector, remaining.tenant)
            else:
                with suppress(DemonstrationNotFound):
                    await self.store.delete(remaining.demonstration_id, remaining.tenant)
            remaining = await self.sessions.deliveries.delivered(remaining)
