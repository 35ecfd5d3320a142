"""A label engine under watch: whether it answers, and whether it can recover.

vLLM reports when its process has died, but not when the process hangs, and callers would wait for
ever. So this measures the time between answers, and sends a probe while there are no requests.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from service.decoding.engine import LabelEngine, Reading, ServerState, ServerWork
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
        trouble: why prompts are refused; None while they are not.
        work: the reads that were answered.
    """

    def __init__(
        self,
        engine: LabelEngine,
        options: WatchOptions = WatchOptions(),
        *,
        name: str = "the label engine",
        probe: Callable[[], Awaitable[None]] | None = None,
        trouble: str | None = None,
    ) -> None:
        """Begin with an engine that answers.

        Args:
            name: the engine in log messages.
            probe: tries the engine, and raises EngineUnavailable; None: reads one token.
            trouble: why prompts are refused until a probe is answered.
        """
        self._engine = engine
        self._options = options
        self._name = name
        self._try_engine = probe or self._read_one_token
        self._asked: set[asyncio.Timeout] = set()
        self._answered = False
        self._quiet_s = 0.0
        self._probe: asyncio.Task[None] | None = None
        self.silent_s = 0.0
        self.lost: str | None = None
        self.trouble = trouble
        self.work = ServerWork()

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        if self.trouble is not None:
            raise EngineUnavailable(self.trouble)
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None) as patience:
                self._asked.add(patience)
                try:
                    reading = await self._engine.read(prompt, candidates, priority, salt=salt)
                finally:
                    self._asked.discard(patience)
        except TimeoutError:  # set by `_refuse_all`
            raise EngineUnavailable(self.trouble or "the label engine does not answer") from None
        self._answered = True
        self.work.count(prompt, reading, asyncio.get_running_loop().time() - began)
        return reading

    async def check(self) -> None:
        if self.trouble is not None:
            raise EngineUnavailable(self.trouble)
        await self._engine.check()

    @property
    def servers(self) -> Sequence[ServerState]:
        is_available = self.trouble is None
        return (ServerState("in-process", is_available, {}, len(self._asked), self.work),)

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
            self.silent_s = 0.0
            if self.trouble is None:
                self._quiet_s = 0.0
                return
        probing = self._probe is not None and not self._probe.done()
        self._quiet_s += elapsed_s
        self.silent_s = self.silent_s + elapsed_s if self._asked or probing else 0.0
        if self.silent_s >= self._options.exit_after_s:
            self._give_up(f"{self._name} has not answered for {self.silent_s:.0f} s")
        elif self.silent_s >= self._options.stalled_after_s:
            self._refuse_all(f"{self._name} hangs")
        if not probing and self._quiet_s >= self._options.probe_after_s:
            self._quiet_s = 0.0
            self._probe = asyncio.create_task(self.probe())

    async def probe(self) -> None:
        """Try the engine now; prompts are refused from then on or no longer, as it answers."""
        try:
            await self._try_engine()
        except EngineUnavailable as error:
            why = str(error)
            if why != self.trouble:
                log.warning("%s fails: %s", self._name, why)
            self._refuse_all(why)
            return
        self._answered = True
        if self.trouble is not None:
            self.trouble = None
            log.warning("%s answers again", self._name)

    def set_aside(self, why: str) -> None:
        """Refuse further reads until a probe is answered, the first one at once.

        Reads under way go on.
        """
        if self.trouble is None:
            log.warning("%s is set aside: %s", self._name, why)
            self.trouble = why
            self._quiet_s = self._options.probe_after_s

    async def _read_one_token(self) -> None:
        prompt, candidates = _PROBE
        await self._engine.read(prompt, candidates, Priority.INTERACTIVE)

    def _give_up(self, why: str) -> None:
        self.lost = why
        self._refuse_all(why)

    def _refuse_all(self, why: str) -> None:
        if self.trouble is None:
            log.error("%s: %d prompts are refused", why, len(self._asked))
        self.trouble = why
        now = asyncio.get_running_loop().time()
        for patience in self._asked:
            if not patience.expired():
                patience.reschedule(now)
