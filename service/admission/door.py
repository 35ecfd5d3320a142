"""Admission of requests, and the draining of all of them at shutdown."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.admission.patience import Patience
from service.admission.rejections import ENDING, CountRejection, Rejection
from service.admission.shares import Share
from service.admission.streams import Streams
from service.errors import ClientLeft, DeadlinePassed, ServiceError, ShuttingDown
from service.priority import Priority

_REASONS: Mapping[type[ServiceError], Rejection] = {
    ShuttingDown: Rejection.DRAINING,
    DeadlinePassed: Rejection.DEADLINE,
    ClientLeft: Rejection.CLIENT_LEFT,
}

# Utterances whose results have been sent allow a request as much time again as it had at first.
_EARNING = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOptions:
    """How many requests may be under way, and how long each, by priority; how many streams.

    Attributes:
        share: how much of all this one tenant may take.
    """

    most: Mapping[Priority, int]
    deadline_s: Mapping[Priority, float]
    streams: int = 256
    share: float = 1.0


class Door:
    """Admits requests while there is room and the service is not about to end.

    Attributes:
        draining: no request is admitted any more.
        streams: those that are open.
    """

    def __init__(self, options: DoorOptions, count: CountRejection) -> None:
        self._options = options
        self.streams = Streams(options.streams, count, options.share)
        self._count = count
        self._shares = {
            priority: Share(
                most, options.share, "such requests are under way", Rejection.REQUESTS, count
            )
            for priority, most in options.most.items()
        }
        self._under_way: Mapping[Priority, dict[Patience, str]] = {each: {} for each in Priority}
        self.draining = False

    def under_way(self, priority: Priority) -> int:
        """How many requests have been admitted and not answered."""
        return len(self._under_way[priority])

    @property
    def empty(self) -> bool:
        return not any(self._under_way.values())

    @asynccontextmanager
    async def admit(
        self, priority: Priority, tenant: str, wait_s: float | None
    ) -> AsyncIterator[Patience]:
        """Work on a request inside the block.

        Args:
            wait_s: how long its client wants to wait, if it says; this only lowers the deadline.

        Raises:
            Overloaded, ShuttingDown: it is not admitted; at once.
            DeadlinePassed: it was not done in time.
            ServiceError: what `Patience.end` was told.
        """
        if self.draining:
            self._count(Rejection.DRAINING)
            raise ShuttingDown(ENDING)
        under_way = self._under_way[priority]
        mine = sum(each == tenant for each in under_way.values())
        self._shares[priority].check(len(under_way), mine)
        deadline = self._options.deadline_s[priority]
        seconds = deadline if wait_s is None else min(wait_s, deadline)
        patience = Patience(seconds, earned_s=deadline / _EARNING)
        under_way[patience] = tenant
        try:
            async with patience:
                yield patience
        except ServiceError as error:
            if type(error) in _REASONS:
                self._count(_REASONS[type(error)])
            raise
        finally:
            under_way.pop(patience, None)

    def set_aside(self, patience: Patience) -> None:
        """Take a request that has become a stream for one that is no longer under way."""
        patience.begin_anew(forever=True)
        for under_way in self._under_way.values():
            under_way.pop(patience, None)

    def end_all(self, cause: ServiceError) -> None:
        """Break off everything that is under way."""
        for under_way in self._under_way.values():
            for patience in under_way:
                patience.end(cause)
