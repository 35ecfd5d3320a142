"""How many utterances are read at once, and which is next."""

import asyncio

import pytest

from service.admission.places import Places
from service.admission.rejections import Rejection
from service.errors import Overloaded
from service.priority import Priority
from tests.admission.conftest import step
from tests.clock import PATIENT_S

TURN, BATCH = Priority.INTERACTIVE, Priority.BATCH


async def test_conversations_go_before_batches_and_find_places_that_batches_never_take() -> None:
    """Two of four places are kept; among those that wait, conversations are first."""
    places = Places(4, reserved=2, most_waiting=8)
    entered: list[str] = []
    release = asyncio.Event()

    async def utterance(name: str, priority: Priority) -> None:
        async with places.of(priority, "a"):
            entered.append(name)
            await release.wait()

    tasks = [asyncio.create_task(utterance(f"batch {n}", BATCH)) for n in range(4)]
    await step()
    tasks += [asyncio.create_task(utterance(f"turn {n}", TURN)) for n in range(3)]
    await step()
    assert entered == ["batch 0", "batch 1", "turn 0", "turn 1"]
    assert (places.waiting(TURN), places.waiting(BATCH)) == (1, 2)

    release.set()
    await asyncio.gather(*tasks)

    assert entered[4:] == ["turn 2", "batch 2", "batch 3"]
    assert (places.waiting(TURN), places.waiting(BATCH)) == (0, 0)


async def test_no_more_utterances_wait_than_may() -> None:
    """The next one is refused at once, and counted."""
    rejected: list[Rejection] = []
    places = Places(1, reserved=0, most_waiting=1, reject=rejected.append)
    async with places.of(TURN, "a"):
        waiting = asyncio.create_task(places.take(TURN, "a"))
        await step()
        with pytest.raises(Overloaded):
            await places.take(TURN, "a")
    await waiting

    assert rejected == [Rejection.QUEUE]


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "as it is given a place"])
async def test_who_goes_away_leaves_the_place_to_the_next(given: bool) -> None:
    """No place is lost, however close the two events are."""
    places = Places(1, reserved=0, most_waiting=4)
    await places.take(TURN, "a")
    goes, stays = (asyncio.create_task(places.take(TURN, "a")) for _ in range(2))
    await step()
    if given:
        places.leave(TURN)
    goes.cancel()
    if not given:
        places.leave(TURN)

    await asyncio.wait_for(stays, PATIENT_S)
    assert goes.cancelled() or await asyncio.wait([goes])
    assert places.waiting(TURN) == 0
    places.leave(TURN)
    await asyncio.wait_for(places.take(TURN, "a"), PATIENT_S)


@pytest.mark.parametrize("priority", [TURN, BATCH])
async def test_those_that_wait_take_turns_by_tenant(priority: Priority) -> None:
    """However many wait for one, another's first is next but one."""
    places = Places(1, reserved=0, most_waiting=100)
    entered: list[str] = []

    async def utterance(tenant: str, number: int) -> None:
        async with places.of(priority, tenant):
            entered.append(f"{tenant}{number}")
            await step()

    await places.take(priority, "a")
    tasks = [asyncio.create_task(utterance("a", n)) for n in range(6)]
    await step()
    tasks += [asyncio.create_task(utterance("b", n)) for n in range(2)]
    tasks += [asyncio.create_task(utterance("c", 0))]
    await step()
    tasks[1].cancel()
    places.leave(priority)
    await asyncio.wait(tasks)

    assert entered == ["a0", "b0", "c0", "a2", "b1", "a3", "a4", "a5"]
    assert places.waiting(priority) == 0


async def test_one_tenant_fills_only_a_share_of_the_queue() -> None:
    """The others may wait though its next one is refused."""
    rejected: list[Rejection] = []
    places = Places(1, reserved=0, most_waiting=4, share=0.5, reject=rejected.append)
    await places.take(TURN, "a")
    waiting = [asyncio.create_task(places.take(TURN, tenant)) for tenant in "aabb"]
    await step()

    for tenant, reason in (("a", Rejection.QUEUE), ("c", Rejection.QUEUE)):
        with pytest.raises(Overloaded):
            await places.take(TURN, tenant)
        assert rejected[-1] == reason
    waiting.pop().cancel()
    await step()
    with pytest.raises(Overloaded, match="your tenant"):
        await places.take(TURN, "a")
    assert rejected[-1] == Rejection.TENANT
    waiting.append(asyncio.create_task(places.take(TURN, "c")))
    await step()
    assert places.waiting(TURN) == 4
    for each in waiting:
        each.cancel()
