"""The deadline of one request."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token, copy_context
from types import TracebackType

from service.errors import DeadlinePassed, ServiceError

_of_this_request: ContextVar["Patience | None"] = ContextVar("_of_this_request", default=None)


class Patience:
    """How long one request is worked on: to its deadline, unless it is ended sooner.

    What is under way is cancelled then, so that its places in the queues and in the engine are
    free at once. Entered by the task that answers the request.
    """

    def __init__(self, seconds: float, earned_s: float = 0.0) -> None:
        """Count from when it is entered.

        Args:
            earned_s: how much longer it may take for each utterance that it has been of use to.
        """
        self.seconds = seconds
        self._earned_s = earned_s
        self._timeout = asyncio.timeout(seconds)
        self._cause: ServiceError | None = None
        self._held = False
        self._left = False
        self._token: Token[Patience | None]

    async def __aenter__(self) -> "Patience":
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
            DeadlinePassed: the deadline came first.
            ServiceError: the one that it was ended with.
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
        """End it now, or once what must not be interrupted is done."""
        if self._cause is not None or self._over:
            return
        self._cause = cause
        if not self._held:
            self._timeout.reschedule(_now())

    def begin_anew(self, *, forever: bool = False) -> None:
        """Allow the same time again, from now, for another part of the work; or all the time."""
        if self._cause is None and not self._over:
            self._timeout.reschedule(None if forever else _now() + self.seconds)

    def earn(self, utterances: int) -> None:
        """Allow more time for what was done: never more, from now, than there was at first."""
        deadline = self._timeout.when()
        if deadline is not None and self._cause is None and not self._over:
            later = deadline + utterances * self._earned_s
            self._timeout.reschedule(min(later, _now() + self.seconds))

    @property
    def _over(self) -> bool:
        return self._left or self._timeout.expired()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Go through the block to its end, also past the deadline and without a client."""
        # Ended: the next wait is cancelled. Left: a task that the request began goes on without it.
        if self._held or self._over:
            yield
            return
        deadline = self._timeout.when()
        self._held = True
        self._timeout.reschedule(None)
        try:
            yield
        finally:
            self._held = False
            if not self._left:
                self._timeout.reschedule(deadline if self._cause is None else _now())


@contextmanager
def to_the_end() -> Iterator[None]:
    """Let neither the request's deadline nor its client's leaving interrupt the block.

    For a write: whoever has gone may come back and find it, whole.
    """
    patience = _of_this_request.get()
    if patience is None:
        yield
        return
    with patience.held():
        yield


def renew() -> None:
    """Allow this request the same time again, from now: its client has taken a part of the answer.

    Only for an answer that has an end, however often it is renewed.
    """
    patience = _of_this_request.get()
    if patience is not None:
        patience.begin_anew()


def earn(utterances: int) -> None:
    """Allow this request more time for so many utterances that were scored for it.

    Whoever sends them slower than they are scored, or nothing that can be scored, runs out of time.
    """
    patience = _of_this_request.get()
    if patience is not None:
        patience.earn(utterances)


def without_patience() -> Context:
    """The context of a task that goes on when the request that began it has ended."""
    context = copy_context()
    context.run(_of_this_request.set, None)
    return context


def _now() -> float:
    return asyncio.get_running_loop().time()
