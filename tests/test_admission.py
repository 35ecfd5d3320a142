"""Who gets in, how long they may wait, and who goes first."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.admission import Door, DoorOptions, Patience, Places, Rejection, to_the_end
from service.errors import ClientLeft, DeadlinePassed, Overloaded, ShuttingDown
from service.priority import Priority

TURN, BATCH = Priority.INTERACTIVE, Priority.BATCH
GONE = ClientLeft("gone")


def door(most: int = 2, deadline_s: float = 30) -> tuple[Door, list[Rejection]]:
    """A door that takes one batch, and what it rejected."""
    rejected: list[Rejection] = []
    options = DoorOptions(
        most={TURN: most, BATCH: 1}, deadline_s={TURN: deadline_s, BATCH: deadline_s}
    )
    return Door(options, rejected.append), rejected


async def step() -> None:
    """Let everything go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def wait_long() -> None:
    await asyncio.sleep(30)


async def ended(patience: Patience, work: Callable[[], Awaitable[object]] = wait_long) -> None:
    async with patience:
        await work()


async def test_one_request_too_many_is_refused_and_a_batch_takes_no_others_room() -> None:
    """Batches are counted apart; what is done makes room."""
    entrance, rejected = door(most=2)
    async with entrance.admit(BATCH, None), entrance.admit(TURN, None):
        async with entrance.admit(TURN, None):
            assert (entrance.under_way(TURN), entrance.under_way(BATCH)) == (2, 1)
            for priority in (TURN, BATCH):
                with pytest.raises(Overloaded):
                    async with entrance.admit(priority, None):
                        pass
        async with entrance.admit(TURN, None):
            pass

    assert entrance.empty
    assert rejected == [Rejection.REQUESTS] * 2


async def test_a_door_that_drains_admits_nobody_and_lets_those_inside_go_on() -> None:
    """Whoever is inside is not concerned."""
    entrance, rejected = door()
    async with entrance.admit(TURN, None):
        entrance.draining = True
        with pytest.raises(ShuttingDown):
            async with entrance.admit(TURN, None):
                pass
        await asyncio.sleep(0)

    assert rejected == [Rejection.DRAINING]


async def test_a_request_ends_at_its_deadline_which_its_client_can_only_lower() -> None:
    """The shorter of the two counts."""
    for own_s, wait_s in ((0.01, 30.0), (30.0, 0.01)):
        entrance, rejected = door(deadline_s=own_s)
        with pytest.raises(DeadlinePassed, match=r"0\.01 s"):
            async with entrance.admit(TURN, wait_s):
                await wait_long()
        assert rejected == [Rejection.DEADLINE]
        assert entrance.empty


async def test_what_is_under_way_is_broken_off_with_its_cause() -> None:
    """As when the time to finish is over."""
    entrance, rejected = door()

    async def request() -> None:
        async with entrance.admit(TURN, None):
            await wait_long()

    requests = [asyncio.create_task(request()) for _ in range(2)]
    await step()
    entrance.end_all(ShuttingDown("over"))

    for request_ in requests:
        with pytest.raises(ShuttingDown, match="over"):
            await request_
    assert rejected == [Rejection.DRAINING] * 2


async def test_a_write_is_carried_out_though_its_client_has_left() -> None:
    """The request ends behind the write, at its next wait."""
    written = []
    patience = Patience(30)

    async def work() -> None:
        with patience.held():
            patience.end(GONE)
            await asyncio.sleep(0.01)
            written.append("whole")
        await wait_long()

    with pytest.raises(ClientLeft):
        await ended(patience, work)
    assert written == ["whole"]


async def test_a_write_is_carried_out_past_the_deadline() -> None:
    """The deadline counts again behind it; an answer that is ready is given."""
    entrance, rejected = door()
    async with entrance.admit(TURN, 0.01):
        with to_the_end():
            await asyncio.sleep(0.05)

    assert rejected == []


async def test_outside_of_a_request_nothing_is_held_back() -> None:
    """The offline commands have no door."""
    with to_the_end():
        await asyncio.sleep(0)


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
