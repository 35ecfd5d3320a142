"""How many utterances are read at once, and which is next."""

import asyncio

import pytest

from service.admission.places import Places
from service.admission.rejections import Rejection
from service.errors import Overloaded
from service.priority import Priority
from tests.admission.conftest import step

TURN, BATCH = Priority.INTERACTIVE, Priority.BATCH


async def test_conversations_go_before_batches_and_find_places_that_batches_never_take() -> None:
    """Two of four places are kept; among those that wait, conversations are first."""
    places = Places(4, kept=2, most_waiting=8)
    entered: list[str] = []
    release = asyncio.Event()

    async def utterance(name: str, priority: Priority) -> None:
        async with places.of(priority):
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
    places = Places(1, kept=0, most_waiting=1, reject=rejected.append)
    async with places.of(TURN):
        waiting = asyncio.create_task(places.take(TURN))
        await step()
        with pytest.raises(Overloaded):
            await places.take(TURN)
    await waiting

    assert rejected == [Rejection.QUEUE]


@pytest.mark.parametrize("given", [False, True], ids=["while it waits", "as it is given a place"])
async def test_who_goes_away_leaves_the_place_to_the_next(given: bool) -> None:
    """No place is lost, however close the two events are."""
    places = Places(1, kept=0, most_waiting=4)
    await places.take(TURN)
    goes, stays = (asyncio.create_task(places.take(TURN)) for _ in range(2))
    await step()
    if given:
        places.leave(TURN)
    goes.cancel()
    if not given:
        places.leave(TURN)

    await asyncio.wait_for(stays, 1)
    assert goes.cancelled() or await asyncio.wait([goes])
    assert places.waiting(TURN) == 0
    places.leave(TURN)
    await asyncio.wait_for(places.take(TURN), 1)
