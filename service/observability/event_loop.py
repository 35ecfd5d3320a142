"""The lag of the event loop."""

import asyncio
from collections.abc import Callable

_EVERY_S = 0.02


class LoopLag:
    """Measures, fifty times a second, how late the event loop resumes.

    Attributes:
        last_s: the last lag, in seconds.
    """

    def __init__(self, observe: Callable[[float], None]) -> None:
        self._observe = observe
        self.last_s = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self.last_s = max(0.0, loop.time() - due)
            self._observe(self.last_s)
