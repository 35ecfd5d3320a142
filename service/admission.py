"""Who gets in, how long they may wait, and who goes first.

Three bounds keep answers quick and memory flat, however much is asked of the service:

* Door      requests under way, batches apart from the rest; one too many is refused at once
* Places    utterances under way, which share encoder and engine; conversations before batches
* Patience  how long one request may take: to its deadline, and no longer than its client stays

Streams, the answers that go on for as long as they are read, are bounded by themselves: they only
wait, and take no request's room.

What one caller may ask for is another question, which concerns the caller alone: `service.access`
decides it before `Door.admit`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

from service.errors import (
    ClientLeft,
    DeadlinePassed,
    Overloaded,
    ServiceError,
    ShuttingDown,
)
from service.priority import Priority
from service.stages import Stage, stage


class Rejection(StrEnum):
    """Why a request is not answered with what it asked for; metrics name them so."""

    KEY = "key"  # none, or none that is good
    SCOPE = "scope"  # the key is not for this
    QUOTA = "quota"  # the key has used it up
    CONNECTIONS = "connections"  # too many are open
    REQUESTS = "requests"  # too many under way
    STREAMS = "streams"  # too many are open
    QUEUE = "queue"  # too many utterances wait for a place
    DRAINING = "draining"
    DEADLINE = "deadline"
    CLIENT_LEFT = "client_left"


CountRejection = Callable[[Rejection], None]

_REASONS: Mapping[type[ServiceError], Rejection] = {
    ShuttingDown: Rejection.DRAINING,
    DeadlinePassed: Rejection.DEADLINE,
    ClientLeft: Rejection.CLIENT_LEFT,
}


class Patience:
    """How long one request is worked on: to its deadline, unless it is ended sooner.

    What is under way is cancelled then, so that its places in the queues and in the engine are
    free at once. Entered by the task that answers the request.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._cause: ServiceError | None = None
        self._held = False

    async def __aenter__(self) -> "Patience":
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave.

        Raises:
            DeadlinePassed: the deadline came first.
            ServiceError: the one that it was ended with.
        """
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._cause is not None:
                raise self._cause from None
            raise DeadlinePassed(f"there was no answer within {self.seconds:g} s") from None

    def end(self, cause: ServiceError) -> None:
        """End it now, or once what must not be interrupted is done."""
        if self._cause is not None or self._timeout.expired():
            return
        self._cause = cause
        if not self._held:
            self._timeout.reschedule(_now())

    def begin_anew(self, *, forever: bool = False) -> None:
        """Allow the same time again, from now, for another part of the work; or all the time."""
        if self._cause is None and not self._timeout.expired():
            self._timeout.reschedule(None if forever else _now() + self.seconds)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Go through the block to its end, also past the deadline and without a client."""
        if self._held or self._timeout.expired():  # ended: the next wait is cancelled
            yield
            return
        deadline = self._timeout.when()
        self._held = True
        self._timeout.reschedule(None)
        try:
            yield
        finally:
            self._held = False
            self._timeout.reschedule(deadline if self._cause is None else _now())


_patience: ContextVar[Patience | None] = ContextVar("_patience", default=None)


@contextmanager
def to_the_end() -> Iterator[None]:
    """Let neither the request's deadline nor its client's leaving interrupt the block.

    For a write: whoever has gone may come back and find it, whole.
    """
    patience = _patience.get()
    if patience is None:
        yield
        return
    with patience.held():
        yield


class Stream:
    """An answer that goes on for as long as it is read.

    Attributes:
        ended: it is to end now.
    """

    def __init__(self) -> None:
        self.ended = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have `wait` return, now or when it is next called."""
        self._woken.set()

    def end(self) -> None:
        self.ended = True
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Whether it was woken within so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Streams:
    """The streams that are open."""

    def __init__(self, most: int, count: CountRejection) -> None:
        self._most = most
        self._count = count
        self._open: set[Stream] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open(self) -> Iterator[Stream]:
        """A stream for the time of the block.

        Raises:
            Overloaded: as many as may be are open.
            ShuttingDown: the service is about to end.
        """
        if self._ended:
            raise ShuttingDown("the service is about to end; another one takes the request")
        if len(self._open) >= self._most:
            self._count(Rejection.STREAMS)
            raise Overloaded(f"{self._most} streams are open, as many as may be")
        stream = Stream()
        self._open.add(stream)
        try:
            yield stream
        finally:
            self._open.discard(stream)

    def end_all(self) -> None:
        """End all of them, and open none any more."""
        self._ended = True
        for stream in self._open:
            stream.end()


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOptions:
    """How many requests may be under way, and how long each, by priority; how many streams."""

    most: Mapping[Priority, int]
    deadline_s: Mapping[Priority, float]
    streams: int = 256


class Door:
    """Admits requests while there is room and the service is not about to end.

    Attributes:
        draining: no request is admitted any more.
        streams: those that are open.
    """

    def __init__(self, options: DoorOptions, count: CountRejection) -> None:
        self._options = options
        self.streams = Streams(options.streams, count)
        self._count = count
        self._under_way: Mapping[Priority, set[Patience]] = {each: set() for each in Priority}
        self.draining = False

    def under_way(self, priority: Priority) -> int:
        """How many requests have been admitted and not answered."""
        return len(self._under_way[priority])

    @property
    def empty(self) -> bool:
        return not any(self._under_way.values())

    @asynccontextmanager
    async def admit(self, priority: Priority, wait_s: float | None) -> AsyncIterator[Patience]:
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
            raise ShuttingDown("the service is about to end; another one takes the request")
        most, under_way = self._options.most[priority], self._under_way[priority]
        if len(under_way) >= most:
            self._count(Rejection.REQUESTS)
            raise Overloaded(f"{most} such requests are under way, as many as are taken")
        deadline = self._options.deadline_s[priority]
        patience = Patience(deadline if wait_s is None else min(wait_s, deadline))
        token = _patience.set(patience)
        under_way.add(patience)
        try:
            async with patience:
                yield patience
        except ServiceError as error:
            if type(error) in _REASONS:
                self._count(_REASONS[type(error)])
            raise
        finally:
            under_way.discard(patience)
            _patience.reset(token)

    def set_aside(self, patience: Patience) -> None:
        """Take a request that has become a stream for one that is no longer under way."""
        patience.begin_anew(forever=True)
        for under_way in self._under_way.values():
            under_way.discard(patience)

    def end_all(self, cause: ServiceError) -> None:
        """Break off everything that is under way."""
        for under_way in self._under_way.values():
            for patience in under_way:
                patience.end(cause)


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


def _now() -> float:
    return asyncio.get_running_loop().time()
