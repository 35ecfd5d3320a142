"""The deadline of one request."""

import asyncio

import pytest

from service.admission.deadline import RequestDeadline, earn, renew, to_the_end
from service.errors import ClientLeft, DeadlinePassed
from tests.clock import Clock

GONE = ClientLeft("gone")


async def test_a_write_is_carried_out_though_its_client_has_left() -> None:
    """The request ends behind the write, at its next wait."""
    written = []
    deadline = RequestDeadline(30)

    async def work() -> None:
        async with deadline:
            with to_the_end():
                deadline.end(GONE)
                await asyncio.sleep(0.01)
                written.append("whole")
            await asyncio.sleep(30)

    with pytest.raises(ClientLeft):
        await work()
    assert written == ["whole"]


async def test_a_write_is_carried_out_past_the_deadline() -> None:
    """The deadline counts again behind it; an answer that is ready is given."""

    async def work(after_s: float) -> None:
        async with RequestDeadline(0.01):
            with to_the_end():
                await asyncio.sleep(0.05)
            if after_s:
                await asyncio.sleep(after_s)

    await work(after_s=0)
    with pytest.raises(DeadlinePassed):
        await work(after_s=30)


async def test_outside_of_a_request_nothing_is_held_back() -> None:
    """The offline commands have no door; nor is a request that is done one still."""
    async with RequestDeadline(0.01):
        pass
    await asyncio.sleep(0.05)

    with to_the_end():
        await asyncio.sleep(0)


async def test_what_a_request_has_begun_goes_on_without_it() -> None:
    """In a task of its own, which has the request's context though the request has been left."""
    begun, left = asyncio.Event(), asyncio.Event()

    async def beside() -> str:
        with to_the_end():
            begun.set()
            await left.wait()
        with to_the_end():
            await asyncio.sleep(0)
        return "whole"

    async with RequestDeadline(30):
        task = asyncio.create_task(beside())
        await begun.wait()
    left.set()

    assert await task == "whole"


async def test_work_that_is_done_earns_time_but_never_more_than_there_was(clock: Clock) -> None:
    """Each utterance as much; nothing for what was not scored."""

    async def work(utterances: int, pauses: int, pause_s: float = 400) -> None:
        async with RequestDeadline(1000, earned_s=100):
            earn(utterances)
            for _ in range(pauses):
                await clock.skip(pause_s)
                earn(utterances)

    await work(utterances=1000, pauses=4)
    for utterances in (0, 1):
        with pytest.raises(DeadlinePassed):
            await work(utterances, pauses=10)
    with pytest.raises(DeadlinePassed):
        await work(utterances=1000, pauses=1, pause_s=1100)
    earn(1)


async def test_a_part_of_the_answer_that_was_taken_renews_the_time(clock: Clock) -> None:
    """From then on; where all the time is there, none is taken away."""
    async with RequestDeadline(1000) as deadline:
        for _ in range(4):
            await clock.skip(400)
            renew()
        deadline.begin_anew(forever=True)
        earn(1)
        await clock.skip(1100)
    renew()
