"""Whether an engine that hangs is noticed, and one that comes back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from service.decoding.engine import Reading
from service.decoding.watched import WatchedEngine, WatchOptions
from service.errors import EngineUnavailable
from service.priority import Priority
from tests.clock import PATIENT_S, Clock

# The watch looks four times a second, and takes at most twice that for passed between two looks.
LOOK_S = 0.25
OPTIONS = WatchOptions(probe_after_s=10, stalled_after_s=20, exit_after_s=50)


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
    engine: Hanging, options: WatchOptions = OPTIONS
) -> AsyncIterator[tuple[WatchedEngine, list[str]]]:
    """An engine under watch, and why it was lost."""
    losses: list[str] = []
    watched_engine = WatchedEngine(engine, options)
    watch = asyncio.create_task(watched_engine.watch(losses.append))
    yield watched_engine, losses
    watch.cancel()
    await watched_engine.close()


async def pass_by(clock: Clock, seconds: float) -> None:
    """Let so much time be seen to pass, or up to twice as much on a slow machine."""
    await clock.skip(LOOK_S, times=round(seconds / LOOK_S))


async def read(engine: WatchedEngine) -> Reading:
    return await engine.read([1, 2], [3], Priority.INTERACTIVE)


async def test_what_was_answered_is_counted_with_its_time_and_what_is_open(clock: Clock) -> None:
    """Neither what is refused nor a probe is."""
    engine = Hanging()
    async with watched(engine) as (watched_engine, _):
        await read(watched_engine)
        await watched_engine.probe()
        engine.goes_on.clear()
        open_read = asyncio.create_task(read(watched_engine))
        await pass_by(clock, 2)
        (state,) = watched_engine.servers
        assert (state.open_reads, state.work.reads) == (1, 1)

        engine.goes_on.set()
        await open_read
        watched_engine.set_aside("it is elsewhere")
        with pytest.raises(EngineUnavailable):
            await read(watched_engine)

        (state,) = watched_engine.servers
        assert (state.open_reads, state.work.reads, state.work.prompt_tokens) == (0, 2, 4)
        assert state.work.seconds >= 2


async def test_an_engine_that_answers_is_left_alone(clock: Clock) -> None:
    """Where others ask often enough, no probe does."""
    engine = Hanging()
    async with watched(engine) as (watched_engine, losses):
        for _ in range(8):
            await read(watched_engine)
            await pass_by(clock, 4)
        await watched_engine.check()

    assert engine.asked == 8
    assert losses == []


async def test_an_engine_that_nobody_asks_is_probed_and_found_well(clock: Clock) -> None:
    """A read of one token, now and then."""
    engine = Hanging()
    async with watched(engine) as (watched_engine, losses):
        await pass_by(clock, 45)
        await watched_engine.check()

    assert 4 <= engine.asked <= 9
    assert losses == []


async def test_a_hung_engine_fails_what_waits_refuses_what_comes_and_may_come_back(
    clock: Clock,
) -> None:
    """What was asked of it is cancelled; once a probe is answered it is asked again."""
    engine = Hanging()
    options = WatchOptions(probe_after_s=10, stalled_after_s=20, exit_after_s=1000)
    async with watched(engine, options) as (watched_engine, losses):
        engine.goes_on.clear()
        waiting = asyncio.create_task(read(watched_engine))
        await pass_by(clock, 25)
        assert waiting.done()
        with pytest.raises(EngineUnavailable, match="hangs"):
            await waiting
        with pytest.raises(EngineUnavailable, match="hangs"):
            await read(watched_engine)
        with pytest.raises(EngineUnavailable, match="hangs"):
            await watched_engine.check()
        assert engine.cancelled == 1

        engine.goes_on.set()
        await pass_by(clock, 1)

        await watched_engine.check()
        await read(watched_engine)
    assert losses == []


async def test_an_idle_engine_that_hangs_is_noticed_by_its_probe(clock: Clock) -> None:
    """Nobody has to wait in vain first."""
    engine = Hanging()
    async with watched(engine) as (watched_engine, _):
        engine.goes_on.clear()
        await pass_by(clock, 35)
        with pytest.raises(EngineUnavailable):
            await watched_engine.check()


async def test_an_engine_that_hangs_for_long_is_lost(clock: Clock) -> None:
    """Which is told once."""
    engine = Hanging()
    async with watched(engine) as (watched_engine, losses):
        engine.goes_on.clear()
        await pass_by(clock, 70)
        assert watched_engine.lost is not None
        assert losses == [watched_engine.lost]


async def test_an_engine_that_has_died_is_lost_at_once() -> None:
    """What waits for it fails."""
    engine = Hanging()
    async with watched(engine) as (watched_engine, losses):
        engine.goes_on.clear()
        waiting = asyncio.create_task(read(watched_engine))
        await asyncio.sleep(0)
        engine.dead = True

        with pytest.raises(EngineUnavailable, match="died"):
            await asyncio.wait_for(waiting, PATIENT_S)
        assert losses == ["it has died"]


async def test_time_in_which_this_process_stood_still_is_not_held_against_the_engine(
    clock: Clock,
) -> None:
    """As when all of it was stopped and goes on."""
    engine = Hanging()
    async with watched(engine) as (watched_engine, losses):
        waiting = asyncio.create_task(watched_engine.read([1], [2], Priority.BATCH))
        engine.goes_on.clear()
        await pass_by(clock, 2)
        await clock.skip(1000)
        await pass_by(clock, 2)
        engine.goes_on.set()
        await waiting
    assert losses == []
