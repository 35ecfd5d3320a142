"""Retrieval that fails is left alone for a while, and tried again by one."""

import asyncio
from collections.abc import Sequence

import pytest

from service.errors import DemonstrationsUnavailable
from service.priority import Priority
from service.recognition.retrieval import (
    Breaker,
    BreakerOptions,
    GuardedRetrieval,
    Retrieved,
    Wanted,
)
from tests.clock import Clock

OPTIONS = BreakerOptions(timeout_s=500, threshold=3, reset_s=1000)


class Faulty:
    """Retrieval that finds nothing, fails or hangs, as it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.takes_s = 0.0

    async def nearest(
        self,
        texts: Sequence[str],
        label_space: str,
        wanted: Wanted,
        tenant: str | None,
        priority: Priority,
    ) -> Retrieved:
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        if self.fails:
            raise DemonstrationsUnavailable("away") from ConnectionRefusedError("nobody listens")
        return Retrieved()


def guarded() -> tuple[Faulty, GuardedRetrieval, list[Breaker]]:
    faulty, states = Faulty(), list[Breaker]()
    return faulty, GuardedRetrieval(faulty, OPTIONS, states.append), states


async def ask(retrieval: GuardedRetrieval) -> Retrieved:
    return await retrieval.nearest(["Hello."], "meld", Wanted(1, 0, 1), None, Priority.INTERACTIVE)


async def fail(retrieval: GuardedRetrieval, times: int) -> None:
    for _ in range(times):
        with pytest.raises(DemonstrationsUnavailable):
            await ask(retrieval)


async def test_after_three_failures_in_a_row_nobody_is_asked_for_a_while(clock: Clock) -> None:
    """Then one is, and by its answer all are again."""
    faulty, retrieval, states = guarded()
    faulty.fails = True
    await fail(retrieval, 10)
    assert faulty.asked == 3

    faulty.fails = False
    await clock.skip(1100)

    assert await ask(retrieval) == Retrieved()
    assert await ask(retrieval) == Retrieved()
    assert states == [Breaker.OPEN, Breaker.TRYING, Breaker.CLOSED]


async def test_failures_between_answers_change_nothing() -> None:
    """Only those in a row count."""
    faulty, retrieval, states = guarded()
    for _ in range(4):
        faulty.fails = True
        await fail(retrieval, 2)
        faulty.fails = False
        await ask(retrieval)

    assert states == []


async def test_one_that_does_not_answer_in_time_has_failed(clock: Clock) -> None:
    """Nobody waits longer."""
    faulty, retrieval, states = guarded()
    faulty.takes_s = 10_000

    failing = asyncio.create_task(fail(retrieval, 3))
    await clock.skip(600, times=3)

    assert failing.done()
    await failing
    assert states == [Breaker.OPEN]


async def test_one_at_a_time_tries_whether_it_is_back(clock: Clock) -> None:
    """The others go without at once; a trial that fails opens the breaker again."""
    faulty, retrieval, states = guarded()
    faulty.fails = True
    await fail(retrieval, 3)
    await clock.skip(1100)
    faulty.takes_s = 400

    trial = asyncio.create_task(ask(retrieval))
    await asyncio.sleep(0)
    await fail(retrieval, 5)
    await clock.skip(450)
    with pytest.raises(DemonstrationsUnavailable):
        await trial
    faulty.takes_s = 0
    await fail(retrieval, 1)

    assert faulty.asked == 4
    assert states == [Breaker.OPEN, Breaker.TRYING, Breaker.OPEN]


async def test_a_trial_that_is_cancelled_leaves_the_next_one_to_try(clock: Clock) -> None:
    """Its client has left; that says nothing of the demonstrations."""
    faulty, retrieval, states = guarded()
    faulty.fails = True
    await fail(retrieval, 3)
    faulty.fails = False
    await clock.skip(1100)
    faulty.takes_s = 30
    trial = asyncio.create_task(ask(retrieval))
    await asyncio.sleep(0)

    trial.cancel()
    await asyncio.wait([trial])
    faulty.takes_s = 0

    assert await ask(retrieval) == Retrieved()
    assert states[-1] is Breaker.CLOSED


async def test_why_it_opened_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the cause beneath, not for each answer that goes without."""
    faulty, retrieval, _ = guarded()
    faulty.fails = True

    await fail(retrieval, 10)

    (warning,) = caplog.records
    assert warning.message == (
        "demonstrations are unavailable: answers continue without them: "
        "DemonstrationsUnavailable: away, from ConnectionRefusedError: nobody listens"
    )
