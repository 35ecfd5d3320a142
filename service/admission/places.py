"""How many utterances are read at once, and which of those that wait is next."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from service.admission.rejections import CountRejection, Rejection
from service.errors import Overloaded
from service.priority import Priority
from service.stages import Stage, stage


class Places:
    """The utterances that may be under way at once, and the queue of those that wait.

    Conversations go first, and some places are never given to batches, so that a conversation
    finds one free however much a batch holds.
    """

    def __init__(
        self,
        count: int,
        *,
        kept: int,
        most_waiting: int,
        reject: CountRejection = lambda _: None,
    ) -> None:
        """Make all places free.

        Args:
            count: how many utterances may be under way.
            kept: how many of these places are for conversations alone.
            most_waiting: how many utterances of conversations may wait. Those of batches are as
                many as the batches under way hold, which are bounded.
        """
        if not 0 <= kept < count:
            raise ValueError(f"of {count} places, {kept} cannot be kept")
        self._most = {Priority.INTERACTIVE: count, Priority.BATCH: count - kept}
        self._most_waiting = most_waiting
        self._reject = reject
        self._taken = 0
        self._taken_by_batches = 0
        self._waiting: Mapping[Priority, OrderedDict[asyncio.Future[None], None]] = {
            each: OrderedDict() for each in Priority
        }

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

    def of(self, priority: Priority) -> "Place":
        """A place for the time of an `async with`; Overloaded where too many wait already."""
        return Place(self, priority)

    async def take(self, priority: Priority) -> None:
        """Wait for a place, and take it.

        Raises:
            Overloaded: too many wait already.
        """
        # Whoever waits has the first right to what has become free.
        if self._is_free(priority) and not self._waiting[priority]:
            self._occupy(priority)
            return
        waiting = self._waiting[priority]
        if priority is Priority.INTERACTIVE and len(waiting) >= self._most_waiting:
            self._reject(Rejection.QUEUE)
            raise Overloaded(f"{len(waiting)} utterances wait to be read, as many as may")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting[place] = None
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                waiting.pop(place, None)
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
                place, _ = waiting.popitem(last=False)
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


@dataclass(frozen=True, slots=True)
class Place:
    """One of `Places`, for the time of an `async with`."""

    places: Places
    priority: Priority

    async def __aenter__(self) -> None:
        with stage(Stage.ADMIT):
            await self.places.take(self.priority)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.places.leave(self.priority)
