"""Whether an engine that hangs is noticed, and one that comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from service.decoding.engine import Priority, Reading
from service.decoding.watched import WatchedEngine, WatchOptions
from service.errors import EngineUnavailable

QUICK = WatchOptions(probe_s=0.5, stalled_s=1.0, gives_up_s=2.5)


class Hanging:
    """An engine that can be stopped, as a process is by SIGSTOP, and can die."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.dead = False
        self.asked = 0
        self.cancelled = 0

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        self.asked += 1
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Reading((0.0,) * len(candidates), 0)

    async def check(self) -> None:
        if self.dead:
            raise EngineUnavailable("it has died")

    async def close(self) -> None: ...


@asynccontextmanager
async def watched(
    engine: Hanging, options: WatchOptions = QUICK
) -> AsyncIterator[tuple[WatchedEngine, list[str]]]:
    """An engine under watch, and why it was lost."""
    losses: list[str] = []
    found = WatchedEngine(engine, options)
    watch = asyncio.create_task(found.watch(losses.append))
    yield found, losses
    watch.cancel()
    await found.close()


async def read(engine: WatchedEngine) -> Reading:
    return await engine.read([1, 2], [3], Priority.INTERACTIVE)


async def test_an_engine_that_answers_is_left_alone() -> None:
    """Where others ask often enough, no probe does."""
    engine = Hanging()
    async with watched(engine) as (found, losses):
        for _ in range(8):
            await read(found)
            await asyncio.sleep(0.2)
        await found.check()

    assert engine.asked == 8
    assert losses == []


async def test_an_engine_that_nobody_asks_is_probed_and_found_well() -> None:
    """A read of one token, now and then."""
    engine = Hanging()
    async with watched(engine) as (found, losses):
        await asyncio.sleep(2)
        await found.check()

    assert 1 <= engine.asked <= 4
    assert losses == []


async def test_a_hung_engine_fails_what_waits_refuses_what_comes_and_may_come_back() -> None:
    """What was asked of it is cancelled; once a probe is answered it is asked again."""
    engine = Hanging()
    options = WatchOptions(probe_s=0.5, stalled_s=1.0, gives_up_s=60)
    async with watched(engine, options) as (found, losses):
        engine.goes_on.clear()
        with pytest.raises(EngineUnavailable, match="hangs"):
            await asyncio.wait_for(read(found), 3)
        with pytest.raises(EngineUnavailable, match="hangs"):
            await asyncio.wait_for(read(found), 0.01)
        with pytest.raises(EngineUnavailable, match="hangs"):
            await found.check()
        assert engine.cancelled == 1

        engine.goes_on.set()
        await asyncio.sleep(0.6)

        await found.check()
        await asyncio.wait_for(read(found), 1)
    assert losses == []


async def test_an_idle_engine_that_hangs_is_noticed_by_its_probe() -> None:
    """Nobody has to wait in vain first."""
    engine = Hanging()
    async with watched(engine) as (found, _):
        engine.goes_on.clear()
        await asyncio.sleep(2.2)
        with pytest.raises(EngineUnavailable):
            await found.check()


async def test_an_engine_that_hangs_for_long_is_lost() -> None:
    """Which is told once."""
    engine = Hanging()
    async with watched(engine) as (found, losses):
        engine.goes_on.clear()
        await asyncio.sleep(4.5)
        assert found.lost is not None
        assert losses == [found.lost]


async def test_an_engine_that_has_died_is_lost_at_once() -> None:
    """What waits for it fails."""
    engine = Hanging()
    async with watched(engine) as (found, losses):
        engine.goes_on.clear()
        waiting = asyncio.create_task(read(found))
        await asyncio.sleep(0)
        engine.dead = True

        with pytest.raises(EngineUnavailable, match="died"):
            await asyncio.wait_for(waiting, 2)
        assert losses == ["it has died"]


async def test_time_in_which_this_process_stood_still_is_not_held_against_the_engine() -> None:
    """As when all of it was stopped and goes on."""
    engine = Hanging()
    async with watched(engine) as (found, losses):
        waiting = asyncio.create_task(found.read([1], [2], Priority.BATCH))
        engine.goes_on.clear()
        await asyncio.sleep(0.3)
        time.sleep(3)  # noqa: ASYNC251
        await asyncio.sleep(0.1)
        engine.goes_on.set()
        await asyncio.wait_for(waiting, 1)
    assert losses == []
