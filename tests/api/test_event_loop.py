"""Whether anything keeps the event loop, and so everybody, waiting."""

import asyncio
import gc
import math
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Service

# Pieces of work take some 0.16 ms each on a processor of 2023; a loaded or a slow machine takes
# longer for them and for a step. Steps are 50 to 300 pieces long; what nobody bounds is 10,000.
LONGEST_PIECES = 1_000
_TICK_S = 0.002


def piece_of_work() -> int:
    return sum(n & 3 for n in range(6_000))


class Steps:
    """The longest time that the event loop computed without looking at its timers.

    In processor time of its thread, and in pieces of work, timed all along in the same thread.
    """

    def __init__(self) -> None:
        self._longest_s = 0.0
        self._pieces_s: list[float] = []

    async def watch(self) -> None:
        while True:
            before = time.thread_time()
            piece_of_work()
            worked = time.thread_time()
            self._pieces_s.append(worked - before)
            await asyncio.sleep(_TICK_S)
            self._longest_s = max(self._longest_s, time.thread_time() - worked)

    @property
    def longest(self) -> float:
        """In pieces of work."""
        return self._longest_s / statistics.median(self._pieces_s)

    def __str__(self) -> str:
        return f"{1000 * self._longest_s:.1f} ms, {self.longest:.0f} pieces of work"


@asynccontextmanager
async def watched_steps() -> AsyncIterator[Steps]:
    """The steps of the event loop in the block, without collections of what was there before."""
    gc.collect()
    gc.freeze()  # as the application does once it has started
    steps = Steps()
    watch = asyncio.create_task(steps.watch())
    await asyncio.sleep(0)
    try:
        yield steps
        await asyncio.sleep(_TICK_S)  # for the last step
    finally:
        watch.cancel()
        gc.unfreeze()
    print(f"longest step: {steps}")


async def longest_step(work: Callable[[], Awaitable[None]]) -> float:
    """The longest step while the work is done, in pieces of work; the least of up to three times.

    What the work keeps the loop for it keeps it for each time, a processor that is taken away from
    it does not.
    """
    least = math.inf
    for _ in range(3):
        async with watched_steps() as steps:
            await work()
        least = min(least, steps.longest)
        if least < LONGEST_PIECES:
            break
    return least


async def test_no_step_of_the_event_loop_is_long_while_a_batch_and_conversations_are_answered(
    service: "Service",
) -> None:
    """The largest batch there may be, and eight dialogues beside it."""
    utterances = [
        {"speaker": f"S{n % 3}", "text": f"Remark {n}: I am so happy."} for n in range(1000)
    ]
    batch = {
        "dialogues": [
            {"id": str(start), "utterances": utterances[start : start + 20]}
            for start in range(0, 1000, 20)
        ]
    }
    await service.say("warm", "Ann", "Hello.")

    async def converse(dialogue: str) -> None:
        for n in range(8):
            assert (await service.say(dialogue, "Ann", f"Line {n}.")).status_code == 201

    async def answered_beside_each_other() -> None:
        answer, _ = await asyncio.gather(
            service.client.post("/batch", json=batch),
            asyncio.gather(*(converse(f"call-{n}") for n in range(8))),
        )
        assert answer.status_code == 200

    assert await longest_step(answered_beside_each_other) < LONGEST_PIECES


MEBIBYTE = 1_048_576


def filled(head: bytes, item: bytes, tail: bytes) -> bytes:
    """A body of one mebibyte that repeats an item."""
    count = (MEBIBYTE - len(head) - len(item) - len(tail)) // (len(item) + 1)
    return head + (item + b",") * count + item + tail


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (422, filled(b'{"dialogues":[', b"{}", b"]}")),
        (422, filled(b'{"dialogues":[', b"[" * 500 + b"]" * 500, b"]}")),
        (422, filled(b'{"dialogues":[{"id":"a","utterances":[', b"{}", b"]}]}")),
        (
            422,
            filled(
                b'{"dialogues":[{"id":"a","utterances":[', b'{"speaker":"A","text":"b"}', b"]}]}"
            ),
        ),
        (422, filled(b'{"demonstrations":[', b"0", b"]}")),
        (422, b"{" + b",".join(b'"%x":0' % n for n in range(100_000)) + b"}"),
        (422, b'{"speaker":"A","text":"' + b"," * 1_000_000 + b'"}'),
        (400, b'{"speaker":"A","text":' + b"9" * 1_000_000 + b"}"),
        (422, b"[" + b"," * 10_000 + b'"' + rb"\"" * 500_000),
        (400, b"\n" * MEBIBYTE),
        (422, b"{\n" * 20_000),
        (422, b'{"a":0,"b":0}\n' * 10_000),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
async def test_no_step_of_the_event_loop_is_long_whatever_a_body_spells(
    service: "Service", status: int, content: bytes
) -> None:
    """As JSON on every route, and as lines."""
    as_json = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    as_lines = {"Content-Type": "application/x-ndjson"}
    await service.say("warm", "Ann", "Hello.")
    await service.client.post("/batch", content=b"{}\n", headers=as_lines)

    async def refused_on_every_route() -> None:
        for path in ("/dialogues/a/utterances", "/batch", "/demonstrations"):
            answer = await service.client.post(path, content=content, headers=as_json)
            assert answer.status_code == status
        in_lines = await service.client.post("/batch", content=content, headers=as_lines)
        assert in_lines.status_code == 200

    assert await longest_step(refused_on_every_route) < LONGEST_PIECES
