"""A circuit breaker around retrieval.

Where a Qdrant server is away or slow, every answer would wait for it in vain; so answers go on
without demonstrations at once, and a single one tries, now and then, whether it is back.
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
    """Whether retrieval is asked; metrics number the states so."""

    CLOSED = 0  # always
    TRYING = 1  # by one, while the others go without
    OPEN = 2  # by nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When retrieval is left alone.

    Attributes:
        timeout_s: what one retrieval may take, the encoder's part included.
        threshold: how many failures in a row open the breaker.
        reset_s: how long it stays open before one tries again.
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
            show: told the state whenever it changes.
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
        """What the retrieval behind it finds.

        Raises:
            DemonstrationsUnavailable: there was no answer in time, or the breaker is open.
        """
        self._begin()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                found = await self._retrieval.nearest(texts, label_space, wanted, tenant, priority)
        except TimeoutError:
            late = DemonstrationsUnavailable(
                f"retrieval did not answer in {self._options.timeout_s:g} s"
            )
            self._failed(late)
            raise late from None
        except DemonstrationsUnavailable as error:
            self._failed(error)
            raise
        except BaseException:
            if self._state is Breaker.TRYING:  # who tried was cancelled: let the next one try
                self._change(Breaker.OPEN)
            raise
        self._failures = 0
        if self._state is not Breaker.CLOSED:
            self._change(Breaker.CLOSED)
            log.warning("demonstrations are back")
        return found

    def _begin(self) -> None:
        if self._state is Breaker.CLOSED:
            return
        if self._state is Breaker.TRYING or _now() < self._try_at:
            raise DemonstrationsUnavailable("retrieval fails and is left alone for a while")
        self._change(Breaker.TRYING)

    def _failed(self, error: DemonstrationsUnavailable) -> None:
        self._failures += 1
        if self._failures < self._options.threshold:
            return
        if self._state is Breaker.CLOSED:
            log_cause(log, "demonstrations are away: answers go on without them", error)
        self._try_at = _now() + self._options.reset_s
        self._change(Breaker.OPEN)

    def _change(self, state: Breaker) -> None:
        self._state = state
        self._show(state)


def _now() -> float:
    return asyncio.get_running_loop().time()
