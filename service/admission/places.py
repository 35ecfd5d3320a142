"""Concurrent utterances: how many are in flight, and which queued one is next."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from service.admission.rejections import CountRejection, Rejection
from service.admission.shares import Share
from service.priority import Priority
from service.tracing import Stage, stage


class Places:
    """A limit of utterances in flight, and the queue of waiting ones.

    Conversations go first, and some places are reserved for them, so that they find one free
    whatever batches hold. In the queue, tenants take turns.
    """

    def __init__(
        self,
        count: int,
        *,
        reserved: int,
        most_waiting: int,
        share: float = 1.0,
        reject: CountRejection = lambda _: None,
    ) -> None:
        """Make all places free.

        Args:
            count: the most utterances in flight.
            reserved: the number of these places that are reserved for conversations.
            most_waiting: the most waiting utterances of conversations. Those of batches are bounded
                by the batches in flight.
            share: the share of `most_waiting` that one tenant may take.
        """
        if not 0 <= reserved < count:
            raise ValueError(f"{reserved} of {count} places cannot be reserved")
        self._most = {Priority.INTERACTIVE: count, Priority.BATCH: count - reserved}
        self._share = Share(most_waiting, share, "utterances are waiting", Rejection.QUEUE, reject)
        self._taken = 0
        self._taken_by_batches = 0
        self._waiting: Mapping[Priority, _Queue] = {priority: _Queue() for priority in Priority}

    def waiting(self, priority: Priority) -> int:
        """The number of utterances that wait for a place."""
        return len(self._waiting[priority])

    def taken(self, priority: Priority) -> int:
        """The number of utterances that hold a place."""
        batches = self._taken_by_batches
        return batches if priority is Priority.BATCH else self._taken - batches

    def most(self, priority: Priority) -> int:
        """The most utterances that may hold a place; of conversations, if batches hold none."""
        return self._most[priority]

    def of(self, priority: Priority, tenant: str) -> "Place":
        """A place for the duration of an `async with`, which raises Overloaded as `take` does."""
        return Place(self, priority, tenant)

    async def take(self, priority: Priority, tenant: str) -> None:
        """Wait for a place, and take it.

        Raises:
            Overloaded: too many utterances wait already, or too many of the tenant's.
        """
        # Waiting utterances take precedence.
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
            else:  # it was given a place at the same moment
                self.leave(priority)
            raise

    def leave(self, priority: Priority) -> None:
        """Release a place, and give it to a waiting utterance."""
        self._taken -= 1
        self._taken_by_batches -= priority is Priority.BATCH
        for queue_priority in sorted(Priority):
            waiting = self._waiting[queue_priority]
            while waiting and self._is_free(queue_priority):
                place = waiting.pop()
                if not place.cancelled():
                    self._occupy(queue_priority)
                    place.set_result(None)

    def _is_free(self, priority: Priority) -> bool:
        if priority is Priority.BATCH and self._taken_by_batches >= self._most[priority]:
            return False
        return self._taken < self._most[Priority.INTERACTIVE]

    def _occupy(self, priority: Priority) -> None:
        self._taken += 1
        self._taken_by_batches += priority is Priority.BATCH


class _Queue:
    """Waiting utterances: tenants take turns; each tenant's are first in, first out."""

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
        """Remove the next one, and move its tenant to the end."""
        tenant, waiting = next(iter(self._of.items()))
        place, _ = waiting.popitem(last=False)
        if waiting:
            self._of.move_to_end(tenant)
        else:
            del self._of[tenant]
        return place


@dataclass(frozen=True, slots=True)
class Place:
    """One of `Places`, for the duration of an `async with`."""

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
