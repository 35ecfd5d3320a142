"""How load is put on a server: who waits for whom."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from tests.bench.client import Answer
from tests.bench.load import Arrival, closed_loop, open_loop, poisson_arrivals

OK = Answer(200, b"", b"")


class Scripted:
    """Answers after as many turns of the event loop as a request says, and keeps the order."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.ended: list[bytes] = []
        self.most_at_once = 0

    async def send(self, request: bytes) -> Answer:
        self.begun.append(request)
        self.most_at_once = max(self.most_at_once, len(self.begun) - len(self.ended))
        for _ in range(int(request.split()[-1])):
            await asyncio.sleep(0)
        self.ended.append(request)
        return OK


def turns(name: str, count: int, loops: Sequence[int] = (3, 0, 5)) -> list[bytes]:
    return [f"{name} {n} {loops[n % len(loops)]}".encode() for n in range(count)]


async def test_callers_of_a_closed_loop_wait_for_their_answers() -> None:
    """Each sequence in its order, as many at once as there are callers."""
    server = Scripted()
    sequences = [turns(name, 4) for name in "abcdefg"]

    samples = await closed_loop(server.send, sequences, callers=3)

    assert len(samples) == 28
    assert server.most_at_once == 3
    for sequence in sequences:
        assert [request for request in server.begun if request in sequence] == sequence
        assert [request for request in server.ended if request in sequence] == sequence


async def test_a_closed_loop_begins_nothing_when_its_time_is_over() -> None:
    """Here at once."""
    server = Scripted()

    assert await closed_loop(server.send, [turns("a", 4)], callers=2, seconds=0) == []
    assert server.begun == []


async def test_turns_of_a_conversation_are_sent_in_order_whatever_the_server_does() -> None:
    """All are due at once, and later ones would be answered sooner."""
    server = Scripted()
    dialogues = {name: turns(name, 6, loops=(9, 4, 0)) for name in "abc"}
    arrivals = [Arrival(0.0, number) for _ in range(6) for number in range(3)]

    samples = await open_loop(server.send, arrivals, iter(dialogues.values()))

    assert len(samples) == 18
    assert server.most_at_once == 3
    for utterances in dialogues.values():
        assert [request for request in server.ended if request in utterances] == utterances


async def test_a_conversation_goes_on_with_the_next_dialogue() -> None:
    """When its dialogue is at its end."""
    server = Scripted()

    await open_loop(server.send, [Arrival(0.0, 0)] * 3, iter([turns("a", 2), turns("b", 2)]))

    assert server.begun == [*turns("a", 2), turns("b", 2)[0]]


async def test_a_turn_that_waits_for_its_predecessor_counts_from_when_it_was_due() -> None:
    """The server holds the first turn until all others are due; none of them is forgiven that."""
    all_due = asyncio.Event()

    async def send(request: bytes) -> Answer:
        await all_due.wait()
        return OK

    def arrivals() -> Iterator[Arrival]:
        for at in (0.0, 0.001, 0.002):
            yield Arrival(at, 0)
        asyncio.get_running_loop().call_later(0.01, all_due.set)

    samples = await open_loop(send, arrivals(), iter([turns("a", 3)]))

    assert [sample.planned_s for sample in samples] == [0.0, 0.001, 0.002]
    for sample in samples:
        assert sample.latency_s == sample.answered_s - sample.planned_s
        assert sample.answered_s >= samples[0].answered_s > 0.002


def test_arrivals_are_by_time_and_the_same_for_the_same_seed() -> None:
    """None is due when the load is over."""
    arrivals = list(poisson_arrivals(100, 3, conversations=7, seed=5))

    assert arrivals == list(poisson_arrivals(100, 3, conversations=7, seed=5))
    assert arrivals != list(poisson_arrivals(100, 3, conversations=7, seed=6))
    assert arrivals == sorted(arrivals, key=lambda arrival: arrival.at_s)
    assert arrivals[0].at_s > 0
    assert arrivals[-1].at_s < 3
    assert {arrival.conversation for arrival in arrivals} == set(range(7))


def test_arrivals_are_as_many_as_the_rate_says() -> None:
    """10,000 are meant; seed 1 is within three standard deviations, 100 each."""
    assert len(list(poisson_arrivals(1000, 10, 5, seed=1))) == pytest.approx(10_000, abs=300)
