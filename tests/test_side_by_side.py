"""Work that is done side by side."""

import asyncio

import pytest

from service.side_by_side import together


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
