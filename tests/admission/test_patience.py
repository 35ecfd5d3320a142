"""How long one request is worked on."""

import asyncio

import pytest

from service.admission.patience import Patience, to_the_end
from service.errors import ClientLeft, DeadlinePassed

GONE = ClientLeft("gone")


async def test_a_write_is_carried_out_though_its_client_has_left() -> None:
    """The request ends behind the write, at its next wait."""
    written = []
    patience = Patience(30)

    async def work() -> None:
        async with patience:
            with to_the_end():
                patience.end(GONE)
                await asyncio.sleep(0.01)
                written.append("whole")
            await asyncio.sleep(30)

    with pytest.raises(ClientLeft):
        await work()
    assert written == ["whole"]


async def test_a_write_is_carried_out_past_the_deadline() -> None:
    """The deadline counts again behind it; an answer that is ready is given."""

    async def work(after_s: float) -> None:
        async with Patience(0.01):
            with to_the_end():
                await asyncio.sleep(0.05)
            if after_s:
                await asyncio.sleep(after_s)

    await work(after_s=0)
    with pytest.raises(DeadlinePassed):
        await work(after_s=30)


async def test_outside_of_a_request_nothing_is_held_back() -> None:
    """The offline commands have no door; nor is a request that is done one still."""
    async with Patience(0.01):
        pass
    await asyncio.sleep(0.05)

    with to_the_end():
        await asyncio.sleep(0)
