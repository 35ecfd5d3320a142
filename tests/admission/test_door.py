"""Which requests are worked on."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from service.admission.door import Door, DoorOptions
from service.admission.rejections import Rejection
from service.errors import DeadlinePassed, Overloaded, ShuttingDown
from service.priority import Priority
from tests.admission.conftest import step

TURN, BATCH = Priority.INTERACTIVE, Priority.BATCH


def door(most: int = 2, deadline_s: float = 30) -> tuple[Door, list[Rejection]]:
    """A door that takes one batch, and what it rejected."""
    rejected: list[Rejection] = []
    options = DoorOptions(
        most={TURN: most, BATCH: 1}, deadline_s={TURN: deadline_s, BATCH: deadline_s}
    )
    return Door(options, rejected.append), rejected


async def wait_long() -> None:
    await asyncio.sleep(30)


async def test_one_request_too_many_is_refused_and_a_batch_takes_no_others_room() -> None:
    """Batches are counted apart; what is done makes room."""
    entrance, rejected = door(most=2)
    async with entrance.admit(BATCH, "a", None), entrance.admit(TURN, "a", None):
        async with entrance.admit(TURN, "a", None):
            assert (entrance.under_way(TURN), entrance.under_way(BATCH)) == (2, 1)
            for priority in (TURN, BATCH):
                with pytest.raises(Overloaded):
                    async with entrance.admit(priority, "a", None):
                        pass
        async with entrance.admit(TURN, "a", None):
            pass

    assert entrance.empty
    assert rejected == [Rejection.REQUESTS] * 2


async def test_a_door_that_drains_admits_nobody_and_lets_those_inside_go_on() -> None:
    """Whoever is inside is not concerned."""
    entrance, rejected = door()
    async with entrance.admit(TURN, "a", None):
        entrance.draining = True
        with pytest.raises(ShuttingDown):
            async with entrance.admit(TURN, "a", None):
                pass
        await asyncio.sleep(0)

    assert rejected == [Rejection.DRAINING]


async def test_a_request_ends_at_its_deadline_which_its_client_can_only_lower() -> None:
    """The shorter of the two counts."""
    for own_s, wait_s in ((0.01, 30.0), (30.0, 0.01)):
        entrance, rejected = door(deadline_s=own_s)
        with pytest.raises(DeadlinePassed, match=r"0\.01 s"):
            async with entrance.admit(TURN, "a", wait_s):
                await wait_long()
        assert rejected == [Rejection.DEADLINE]
        assert entrance.empty


async def test_what_is_under_way_is_broken_off_with_its_cause() -> None:
    """As when the time to finish is over."""
    entrance, rejected = door()

    async def request() -> None:
        async with entrance.admit(TURN, "a", None):
            await wait_long()

    requests = [asyncio.create_task(request()) for _ in range(2)]
    await step()
    entrance.end_all(ShuttingDown("over"))

    for request_ in requests:
        with pytest.raises(ShuttingDown, match="over"):
            await request_
    assert rejected == [Rejection.DRAINING] * 2


async def test_one_tenant_has_a_share_of_the_room_and_one_request_in_any_case() -> None:
    """The others find the rest, of streams too; a share that is all of it is no bound."""
    rejected: list[Rejection] = []
    seconds = {TURN: 30.0, BATCH: 30.0}
    options = DoorOptions(most={TURN: 5, BATCH: 1}, deadline_s=seconds, streams=5, share=0.5)
    entrance = Door(options, rejected.append)
    async with entrance.admit(BATCH, "a", None), AsyncExitStack() as inside:
        for _ in range(2):
            await inside.enter_async_context(entrance.admit(TURN, "a", None))
            inside.enter_context(entrance.streams.open("a"))
        with pytest.raises(Overloaded, match=r"such requests .* your tenant \(limit 2\)"):
            await inside.enter_async_context(entrance.admit(TURN, "a", None))
        with pytest.raises(Overloaded, match=r"streams .* your tenant \(limit 2\)"):
            inside.enter_context(entrance.streams.open("a"))
        for tenant in ("b", "b", "c"):
            await inside.enter_async_context(entrance.admit(TURN, tenant, None))
            inside.enter_context(entrance.streams.open(tenant))
        assert rejected == [Rejection.TENANT] * 2
        with pytest.raises(Overloaded, match="too many"):
            await inside.enter_async_context(entrance.admit(TURN, "d", None))
        with pytest.raises(Overloaded, match="too many"):
            inside.enter_context(entrance.streams.open("d"))

    assert rejected[2:] == [Rejection.REQUESTS, Rejection.STREAMS]
    assert entrance.empty
    async with entrance.admit(TURN, "a", None), entrance.admit(TURN, "a", None):
        assert entrance.under_way(TURN) == 2
