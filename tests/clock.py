"""Time in tests that a slow machine does not fail.

A limit that is to pass is long, and is skipped. What is to happen is waited for with patience. So a
machine that stands still for seconds changes nothing.
"""

import asyncio
from collections.abc import Callable

# What is to happen has happened by then, on any machine.
PATIENT_S = 120.0
# More rounds than anything takes that waits for no thread and no other process.
_ROUNDS = 50


class Clock:
    """The clock of a running event loop, which goes on and can be moved ahead."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ahead_s = 0.0
        time = loop.time
        loop.time = lambda: time() + self._ahead_s  # type: ignore[method-assign]

    async def skip(self, seconds: float, times: int = 1) -> None:
        """Let so much time be over, again and again, and let go on what was due by then."""
        for _ in range(times):
            await settled()
            self._ahead_s += seconds
            await settled()

    def restore(self) -> None:
        del self._loop.time  # type: ignore[method-assign]  # the loop's class still has it


async def settled() -> None:
    """Return when all has gone on that waits for no time, no thread and no other process."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Return once a condition holds."""
    async with asyncio.timeout(PATIENT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
