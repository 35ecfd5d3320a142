"""How load is put on a server: closed, with a fixed number of callers, or open, by the clock."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.bench.client import Answer

# Not the event loop's: uvloop's counts in whole milliseconds.
_clock = time.perf_counter

Send = Callable[[bytes], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and its answer.

    Attributes:
        planned_s: seconds from the beginning of the load to when the request was due. Waiting for
            a predecessor counts from then, so a slow server cannot hide by holding up its callers.
        answered_s: seconds from there to its answer's end.
    """

    planned_s: float
    answered_s: float
    answer: Answer

    @property
    def latency_s(self) -> float:
        return self.answered_s - self.planned_s


async def closed_loop(
    send: Send,
    sequences: Iterable[Sequence[bytes]],
    callers: int,
    seconds: float = float("inf"),
) -> list[Sample]:
    """Send sequences of requests, each in its order, the next one when the last is answered.

    Args:
        sequences: taken by the callers as they become free.
        callers: how many sequences are under way at once.
        seconds: no request is begun after that.
    """
    samples: list[Sample] = []
    waiting = iter(sequences)
    start = _clock()

    async def caller() -> None:
        for sequence in waiting:
            for request in sequence:
                planned = _clock() - start
                if planned >= seconds:
                    return
                answer = await send(request)
                samples.append(Sample(planned, _clock() - start, answer))

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return samples


@dataclass(frozen=True, slots=True)
class Arrival:
    """The next turn of a conversation is due.

    Attributes:
        at_s: seconds from the beginning of the load.
        conversation: its number.
    """

    at_s: float
    conversation: int


def poisson_arrivals(
    rate: float, seconds: float, conversations: int, seed: int
) -> Iterator[Arrival]:
    """Turns at random times, `rate` a second on average, each of a random conversation."""
    rng = random.Random(seed)
    at = rng.expovariate(rate)
    while at < seconds:
        yield Arrival(at, rng.randrange(conversations))
        at += rng.expovariate(rate)


@dataclass(slots=True)
class _Conversation:
    turns: deque[bytes] = field(default_factory=deque)
    due: deque[float] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


async def open_loop(
    send: Send, arrivals: Iterable[Arrival], dialogues: Iterator[Sequence[bytes]]
) -> list[Sample]:
    """Send turns when they are due, whatever the server does.

    A turn whose predecessor in its conversation is not answered yet waits for that. A conversation
    takes a dialogue, and the next one after its end.

    Args:
        arrivals: by time.
        dialogues: the requests of each; enough of them for all arrivals.
    """
    samples: list[Sample] = []
    conversations: dict[int, _Conversation] = {}
    start = _clock()

    async def speak(conversation: _Conversation) -> None:
        while conversation.due:
            planned = conversation.due.popleft()
            if not conversation.turns:
                conversation.turns.extend(next(dialogues))
            answer = await send(conversation.turns.popleft())
            samples.append(Sample(planned, _clock() - start, answer))

    async with asyncio.TaskGroup() as group:
        for arrival in arrivals:
            ahead = start + arrival.at_s - _clock()
            if ahead > 0:
                await asyncio.sleep(ahead)
            conversation = conversations.setdefault(arrival.conversation, _Conversation())
            conversation.due.append(arrival.at_s)
            if conversation.task is None or conversation.task.done():
                conversation.task = group.create_task(speak(conversation))
    return samples
