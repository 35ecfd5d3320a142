"""Concurrent utterances: how many are read at once, and which queued one is next."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from service.admission.rejections import CountRejection, Rejection
from service.admission.shares import Share
from service.priority import Priority
from service.tracing.stages import Stage, stage


class Places:
    """The utterances that may be under way at once, and the queue of those that wait.

    Conversations go first, and some places are never given to batches, so that a conversation
    finds one free however much a batch holds. Of those that wait, the tenants take turns.
    """

    def __init__(
        self,
        count: int,
        *,
        kept: int,
        most_waiting: int,
        share: float = 1.0,
        reject: CountRejection = lambda _: None,
    ) -> None:
        """Make all places free.

        Args:
            count: how many utterances may be under way.
            kept: how many of these places are for conversations alone.
            most_waiting: how many utterances of conversations may wait. Those of batches are as
                many as the batches under way hold, which are bounded.
            share: how many of those that may wait can be of one tenant.
        """
        if not 0 <= kept < count:
            raise ValueError(f"of {count} places, {kept} cannot be kept")
        self._most = {Priority.INTERACTIVE: count, Priority.BATCH: count - kept}
        self._share = Share(
            most_waiting, share, "utterances wait to be read", Rejection.QUEUE, reject
        )
        self._taken = 0
        self._taken_by_batches = 0
        self._waiting: Mapping[Priority, _Queue] = {each: _Queue() for each in Priority}

    def waiting(self, priority: Priority) -> int:
        """How many utterances wait for a place."""
        return len(self._waiting[priority])

    def taken(self, priority: Priority) -> int:
        """How many utterances have one."""
        batches = self._taken_by_batches
        return batches if priority is Priority.BATCH else self._taken - batches

    def most(self, priority: Priority) -> int:
        """How many utterances may have one; of conversations, where no batch has any."""
        return self._most[priority]

    def of(self, priority: Priority, tenant: str) -> "Place":
        """A place for the time of an `async with`; Overloaded where too many wait already."""
        return Place(self, priority, tenant)

    async def take(self, priority: Priority, tenant: str) -> None:
        """Wait for a place, and take it.

        Raises:
            Overloaded: too many wait already, or too many of the tenant's.
        """
        # Whoever waits has the first right to what has become free.
        if self._is_free(priority) and not self._waiting[priority]:
            self._occupy(priority)
            return
        waiting = self._waiting[priority]
        if priority is Priority.INTERACTIVE:
            self._share.check(len(waiting), waiting.of(tenant))
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.add(tenant, place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                waiting.discard(tenant, place)
            else:  # it has been given a place just now
                self.leave(priority)
            raise

    def leave(self, priority: Priority) -> None:
        """Give a place back; those that wait may have it."""
        self._taken -= 1
        self._taken_by_batches -= priority is Priority.BATCH
        for each in sorted(Priority):
            waiting = self._waiting[each]
            while waiting and self._is_free(each):
                place = waiting.pop()
                if not place.cancelled():
                    self._occupy(each)
                    place.set_result(None)

    def _is_free(self, priority: Priority) -> bool:
        if priority is Priority.BATCH and self._taken_by_batches >= self._most[priority]:
            return False
        return self._taken < self._most[Priority.INTERACTIVE]

    def _occupy(self, priority: Priority) -> None:
        self._taken += 1
        self._taken_by_batches += priority is Priority.BATCH


class _Queue:
    """Those that wait: the tenants take turns, and of one tenant's the first to come is next."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, OrderedDict[asyncio.Future[None], None]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def of(self, tenant: str) -> int:
        return len(self._of.get(tenant, ()))

    def add(self, tenant: str, place: asyncio.Future[None]) -> None:
        self._of.setdefault(tenant, OrderedDict())[place] = None

    def discard(self, tenant: str, place: asyncio.Future[None]) -> None:
        waiting = self._of.get(tenant)
        if waiting is not None:
            waiting.pop(place, None)
            if not waiting:
                del self._of[tenant]

    def pop(self) -> asyncio.Future[None]:
        """The next one; its tenant's others come after those of the other tenants."""
        tenant, waiting = next(iter(self._of.items()))
        place, _ = waiting.popitem(last=False)
        if waiting:
            self._of.move_to_end(tenant)
        else:
            del self._of[tenant]
        return place


@dataclass(frozen=True, slots=True)
class Place:
    """One of `Places`, for the time of an `async with`."""

    places: Places
    priority: Priority
    tenant: str

    async def __aenter__(self) -> None:
        with stage(Stage.ADMIT):
            await self.places.take(self.priority, self.tenant)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.places.leave(self.priority)
