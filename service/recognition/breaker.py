"""A circuit breaker around retrieval.

If a Qdrant server is unavailable or slow, every answer would wait for it in vain. So answers go on
without demonstrations at once, and from time to time a single one tries the server again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from service.errors import DemonstrationsUnavailable
from service.failures import log_cause
from service.priority import Priority
from service.recognition.retrieval import Retrieval, Retrieved, Wanted

log = logging.getLogger(__name__)


class Breaker(IntEnum):
    """The breaker's states, with their numbers in metrics."""

    CLOSED = 0  # all answers retrieve
    TRYING = 1  # one answer tries, the others go without
    OPEN = 2  # no answer retrieves


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When the breaker opens.

    Attributes:
        timeout_s: the most seconds for one retrieval, including the encoder.
        threshold: the number of consecutive failures that open the breaker.
        reset_s: seconds that it stays open before one answer tries again.
    """

    timeout_s: float = 10.0
    threshold: int = 5
    reset_s: float = 10.0


class GuardedRetrieval:
    """Retrieval behind a circuit breaker."""

    def __init__(
        self,
        retrieval: Retrieval,
        options: BreakerOptions = BreakerOptions(),
        show: Callable[[Breaker], None] = lambda _: None,
    ) -> None:
        """Begin closed.

        Args:
            show: called with the state whenever it changes.
        """
        self._retrieval = retrieval
        self._options = options
        self._show = show
        self._failures = 0
        self._try_at = 0.0
        self._state = Breaker.CLOSED

    async def nearest(
        self,
        texts: Sequence[str],
        label_space: str,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> Retrieved:
        """Pass the request on to the guarded retrieval.

        Raises:
            DemonstrationsUnavailable: retrieval fails or times out, or the breaker is open.
        """
        self._begin()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                retrieved = await self._retrieval.nearest(
                    texts, label_space, wanted, tenant, priority
                )
        except TimeoutError:
            timed_out = DemonstrationsUnavailable(
                f"retrieval did not answer in {self._options.timeout_s:g} s"
            )
            self._failed(timed_out)
            raise timed_out from None
        except DemonstrationsUnavailable as error:
            self._failed(error)
            raise
        except BaseException:
            if self._state is Breaker.TRYING:  # the trial was cancelled: let the next one try
                self._change(Breaker.OPEN)
            raise
        self._failures = 0
        if self._state is not Breaker.CLOSED:
            self._change(Breaker.CLOSED)
            log.warning("demonstrations are available again")
        return retrieved

    def _begin(self) -> None:
        if self._state is Breaker.CLOSED:
            return
        if self._state is Breaker.TRYING or _now() < self._try_at:
            raise DemonstrationsUnavailable("retrieval keeps failing and is paused")
        self._change(Breaker.TRYING)

    def _failed(self, error: DemonstrationsUnavailable) -> None:
        self._failures += 1
        if self._failures < self._options.threshold:
            return
        if self._state is Breaker.CLOSED:
            log_cause(log, "demonstrations are unavailable: answers continue without them", error)
        self._try_at = _now() + self._options.reset_s
        self._change(Breaker.OPEN)

    def _change(self, state: Breaker) -> None:
        self._state = state
        self._show(state)


def _now() -> float:
    return asyncio.get_running_loop().time()
