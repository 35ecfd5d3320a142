"""Admission of requests, and the draining of all of them at shutdown."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.admission.deadline import RequestDeadline
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

# The number of scored utterances that extend a request by its whole initial time.
_EARNING = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOptions:
    """Limits of requests in flight and their deadlines, by priority, and of streams.

    Attributes:
        share: the share of each limit that one tenant may take.
    """

    most: Mapping[Priority, int]
    deadline_s: Mapping[Priority, float]
    streams: int = 256
    share: float = 1.0


class Door:
    """Admits requests while there is capacity and the service is not shutting down.

    Attributes:
        draining: whether new requests are refused.
        streams: the open streams.
    """

    def __init__(self, options: DoorOptions, count: CountRejection) -> None:
        self._options = options
        self.streams = Streams(options.streams, count, options.share)
        self._count = count
        self._shares = {
            priority: Share(
                most, options.share, "such requests are in progress", Rejection.REQUESTS, count
            )
            for priority, most in options.most.items()
        }
        self._under_way: Mapping[Priority, dict[RequestDeadline, str]] = {
            priority: {} for priority in Priority
        }
        self.draining = False

    def under_way(self, priority: Priority) -> int:
        """The number of requests in flight."""
        return len(self._under_way[priority])

    @property
    def empty(self) -> bool:
        return not any(self._under_way.values())

    @asynccontextmanager
    async def admit(
        self, priority: Priority, tenant: str, wait_s: float | None
    ) -> AsyncIterator[RequestDeadline]:
        """Admit a request for the duration of the block.

        Args:
            wait_s: the client's own timeout, if it has one; it can only lower the deadline.

        Raises:
            Overloaded, ShuttingDown: the request is not admitted; immediately.
            DeadlinePassed: the block was not done in time.
            ServiceError: the cause that was passed to `RequestDeadline.end`.
        """
        if self.draining:
            self._count(Rejection.DRAINING)
            raise ShuttingDown(ENDING)
        under_way = self._under_way[priority]
        by_tenant = sum(owner == tenant for owner in under_way.values())
        self._shares[priority].check(len(under_way), by_tenant)
        most_s = self._options.deadline_s[priority]
        seconds = most_s if wait_s is None else min(wait_s, most_s)
        deadline = RequestDeadline(seconds, earned_s=most_s / _EARNING)
        under_way[deadline] = tenant
        try:
            async with deadline:
                yield deadline
        except ServiceError as error:
            if type(error) in _REASONS:
                self._count(_REASONS[type(error)])
            raise
        finally:
            under_way.pop(deadline, None)

    def set_aside(self, deadline: RequestDeadline) -> None:
        """Stop counting a request that has become a stream, and lift its deadline."""
        deadline.begin_anew(forever=True)
        for under_way in self._under_way.values():
            under_way.pop(deadline, None)

    def end_all(self, cause: ServiceError) -> None:
        """End all requests in flight."""
        for under_way in self._under_way.values():
            for deadline in under_way:
                deadline.end(cause)
