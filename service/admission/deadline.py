"""The deadline of one request."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token, copy_context
from types import TracebackType

from service.concurrency import loop_time
from service.errors import DeadlinePassed, ServiceError

_of_this_request: ContextVar["RequestDeadline | None"] = ContextVar(
    "_of_this_request", default=None
)


class RequestDeadline:
    """The time limit of one request: its deadline, unless it is ended sooner.

    The request's work is then cancelled, so that its places in the queues and in the engine are
    free at once. The task that answers the request enters it.
    """

    def __init__(self, seconds: float, earned_s: float = 0.0) -> None:
        """Count from when it is entered.

        Args:
            earned_s: seconds by which each scored utterance extends the deadline.
        """
        self.seconds = seconds
        self._earned_s = earned_s
        self._timeout = asyncio.timeout(seconds)
        self._cause: ServiceError | None = None
        self._held = False
        self._left = False
        self._token: Token[RequestDeadline | None]

    async def __aenter__(self) -> "RequestDeadline":
        await self._timeout.__aenter__()
        self._token = _of_this_request.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave.

        Raises:
            DeadlinePassed: the deadline passed.
            ServiceError: the cause that `end` was called with.
        """
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._cause is not None:
                raise self._cause from None
            raise DeadlinePassed(f"there was no answer within {self.seconds:g} s") from None
        finally:
            self._left = True
            _of_this_request.reset(self._token)

    def end(self, cause: ServiceError) -> None:
        """End the request now, or as soon as the block of `held` is done."""
        if self._cause is not None or self._over:
            return
        self._cause = cause
        if not self._held:
            self._timeout.reschedule(loop_time())

    def begin_anew(self, *, forever: bool = False) -> None:
        """Restart the deadline for another part of the work; or lift it."""
        if self._cause is None and not self._over:
            self._timeout.reschedule(None if forever else loop_time() + self.seconds)

    def earn(self, utterances: int) -> None:
        """Extend the deadline for scored utterances, to at most the initial time from now."""
        ends_at = self._timeout.when()
        if ends_at is not None and self._cause is None and not self._over:
            later = ends_at + utterances * self._earned_s
            self._timeout.reschedule(min(later, loop_time() + self.seconds))

    @property
    def _over(self) -> bool:
        return self._left or self._timeout.expired()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Finish the block even past the deadline, or after the client has disconnected."""
        # Ended: the next wait is cancelled. Left: a task that outlives the request is not limited.
        if self._held or self._over:
            yield
            return
        ends_at = self._timeout.when()
        self._held = True
        self._timeout.reschedule(None)
        try:
            yield
        finally:
            self._held = False
            if not self._left:
                self._timeout.reschedule(ends_at if self._cause is None else loop_time())


@contextmanager
def to_the_end() -> Iterator[None]:
    """Shield the block from the request's deadline and from its client's disconnecting.

    For a write: a client that retries finds it complete.
    """
    deadline = _of_this_request.get()
    if deadline is None:
        yield
        return
    with deadline.held():
        yield


def renew() -> None:
    """Restart this request's deadline, because its client has read a part of the response.

    Only for a response that ends, however often it is renewed.
    """
    deadline = _of_this_request.get()
    if deadline is not None:
        deadline.begin_anew()


def earn(utterances: int) -> None:
    """Extend this request's deadline for utterances that were scored for it.

    A client that sends them slower than they are scored, or nothing valid, runs out of time.
    """
    deadline = _of_this_request.get()
    if deadline is not None:
        deadline.earn(utterances)


def without_deadline() -> Context:
    """A context for a task that outlives its request."""
    context = copy_context()
    context.run(_of_this_request.set, None)
    return context
