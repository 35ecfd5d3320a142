"""Tasks that end together, and locks by name: writers of one dialogue take turns."""

import asyncio
import threading
import weakref

import pytest

from service.concurrency import NamedLocks, in_thread, together


async def test_results_come_in_the_order_of_the_work() -> None:
    """Whichever is done first."""
    first_is_done = asyncio.Event()

    async def first() -> str:
        await first_is_done.wait()
        return "first"

    async def second() -> int:
        first_is_done.set()
        return 2

    assert await together(first(), second()) == ("first", 2)
    assert await together() == ()


async def test_the_first_failure_ends_the_rest_and_is_raised_alone() -> None:
    """Not in a group of failures."""
    ended = False

    async def waits() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    async def fails() -> None:
        raise LookupError("scripted")

    with pytest.raises(LookupError, match="scripted"):
        await together(waits(), fails())

    assert ended


async def test_writers_of_one_dialogue_go_one_by_one_in_the_order_they_came() -> None:
    """Nobody enters before the one ahead has left."""
    locks = NamedLocks()
    events: list[str] = []

    async def write(name: str) -> None:
        async with locks.of("default", "call-42"):
            events.append(f"{name} in")
            await asyncio.sleep(0)
            events.append(f"{name} out")

    await asyncio.gather(*(write(name) for name in "abc"))

    assert events == ["a in", "a out", "b in", "b out", "c in", "c out"]


async def test_writers_of_two_dialogues_do_not_wait_for_each_other() -> None:
    """Each dialogue has a lock of its own."""
    locks = NamedLocks()

    async with locks.of("default", "one"), locks.of("default", "two"):
        assert locks.of("default", "one").locked()
        assert locks.of("default", "two").locked()
        assert not locks.of("default", "three").locked()


async def test_a_failure_frees_the_dialogue() -> None:
    """An error in one turn does not block the next."""
    locks = NamedLocks()

    with pytest.raises(KeyError):
        async with locks.of("default", "call-42"):
            raise KeyError

    assert not locks.of("default", "call-42").locked()


async def test_a_lock_lives_while_somebody_holds_it_or_waits() -> None:
    """Idle dialogues take no memory."""
    locks = NamedLocks()

    async with locks.of("default", "call-42"):
        held = weakref.ref(locks.of("default", "call-42"))
        assert held() is not None

    assert held() is None


async def test_a_thread_keeps_its_place_when_its_caller_is_cancelled() -> None:
    """So that callers who leave do not fill all threads; who waits for a place leaves at once."""
    places, may_end = asyncio.Semaphore(1), threading.Event()
    first = asyncio.create_task(in_thread(may_end.wait, places))
    await asyncio.sleep(0)  # it has the place
    assert places.locked()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    second = asyncio.create_task(in_thread(lambda: 2, places))
    waiting = asyncio.create_task(in_thread(lambda: 3, places))
    done, _ = await asyncio.wait([second, waiting], timeout=0.05)
    assert not done
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    may_end.set()
    assert await second == 2
    with pytest.raises(LookupError, match="scripted"):
        await in_thread(_fails, places)
    assert not places.locked()


def _fails() -> None:
    raise LookupError("scripted")
