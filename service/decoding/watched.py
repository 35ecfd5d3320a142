"""A label engine under watch: whether it answers, and whether it can recover.

vLLM reports when its process has died, but not when the process hangs, and callers would wait for
ever. So this measures the time between answers, and sends a probe while there are no requests.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.decoding.engine import LabelEngine, Reading
from service.errors import EngineUnavailable
from service.priority import Priority

log = logging.getLogger(__name__)

_TICK_S = 0.25
_PROBE = ((1,), (1,))  # a prompt of one token, and the candidate token


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """When an engine counts as hanging.

    Attributes:
        probe_after_s: seconds without an answer until it is probed.
        stalled_after_s: seconds of open requests without an answer until it counts as hanging.
        exit_after_s: seconds of open requests without an answer until it counts as lost.
    """

    probe_after_s: float = 4.0
    stalled_after_s: float = 8.0
    exit_after_s: float = 60.0


class WatchedEngine:
    """Passes reads on to another engine while that answers, and refuses them while it hangs.

    Times are capped per tick: a pause of this process itself does not count against the engine.

    Attributes:
        lost: why it will not answer again; None while it may.
        silent_s: seconds of open requests without an answer to any of them.
    """

    def __init__(self, engine: LabelEngine, options: WatchOptions = WatchOptions()) -> None:
        self._engine = engine
        self._options = options
        self._asked: set[asyncio.Timeout] = set()
        self._answered = False
        self._quiet_s = 0.0
        self._trouble: str | None = None
        self._probe: asyncio.Task[None] | None = None
        self.silent_s = 0.0
        self.lost: str | None = None

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        if self._trouble is not None:
            raise EngineUnavailable(self._trouble)
        try:
            async with asyncio.timeout(None) as patience:
                self._asked.add(patience)
                try:
                    reading = await self._engine.read(prompt, candidates, priority, salt=salt)
                finally:
                    self._asked.discard(patience)
        except TimeoutError:  # set by `_refuse_all`
            raise EngineUnavailable(self._trouble or "the label engine does not answer") from None
        self._answered = True
        return reading

    async def check(self) -> None:
        if self._trouble is not None:
            raise EngineUnavailable(self._trouble)
        await self._engine.check()

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe], timeout=1)
        await self._engine.close()

    async def watch(self, on_loss: Callable[[str], None]) -> None:
        """Keep watching until the engine is lost.

        Args:
            on_loss: called once with the reason why the engine will not answer again.
        """
        loop = asyncio.get_running_loop()
        previous = loop.time()
        while self.lost is None:
            await asyncio.sleep(_TICK_S)
            now = loop.time()
            await self._look(min(now - previous, 2 * _TICK_S))
            previous = now
        on_loss(self.lost)

    async def _look(self, elapsed_s: float) -> None:
        try:
            await self._engine.check()
        except EngineUnavailable as error:
            self._give_up(str(error))
            return
        if self._answered:
            self._answered = False
            self._quiet_s = self.silent_s = 0.0
            if self._trouble is not None:
                log.warning("the label engine answers again")
                self._trouble = None
            return
        probing = self._probe is not None and not self._probe.done()
        self._quiet_s += elapsed_s
        self.silent_s = self.silent_s + elapsed_s if self._asked or probing else 0.0
        if self.silent_s >= self._options.exit_after_s:
            self._give_up(f"the label engine has not answered for {self.silent_s:.0f} s")
        elif self.silent_s >= self._options.stalled_after_s:
            self._refuse_all("the label engine hangs")
        if not probing and self._quiet_s >= self._options.probe_after_s:
            self._probe = asyncio.create_task(self._ask_probe())

    async def _ask_probe(self) -> None:
        prompt, candidates = _PROBE
        try:
            await self._engine.read(prompt, candidates, Priority.INTERACTIVE)
        except EngineUnavailable as error:
            log.warning("the label engine fails: %s", error)
            self._refuse_all(str(error))
            return
        self._answered = True

    def _give_up(self, why: str) -> None:
        self.lost = why
        self._refuse_all(why)

    def _refuse_all(self, why: str) -> None:
        if self._trouble is None:
            log.error("%s: %d prompts are refused", why, len(self._asked))
        self._trouble = why
        now = asyncio.get_running_loop().time()
        for patience in self._asked:
            if not patience.expired():
                patience.reschedule(now)
