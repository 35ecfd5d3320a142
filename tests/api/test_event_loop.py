"""Whether anything keeps the event loop, and so everybody, waiting."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Service

LONGEST_S = 0.05
_TICK_S = 0.002


class Steps:
    """The longest time that the event loop computed without looking at its timers.

    In processor time of its thread: what others take from the machine does not count.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(_TICK_S)
            self.longest_s = max(self.longest_s, time.thread_time() - before - _TICK_S)


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
    print(f"longest step: {1000 * steps.longest_s:.1f} ms")


async def test_no_step_of_the_event_loop_is_long_while_a_batch_and_conversations_are_answered(
    service: "Service",
) -> None:
    """The largest batch there may be, and eight dialogues beside it."""
    said = [{"speaker": f"S{n % 3}", "text": f"Remark {n}: I am so happy."} for n in range(1000)]
    batch = {
        "dialogues": [
            {"id": str(start), "utterances": said[start : start + 20]}
            for start in range(0, 1000, 20)
        ]
    }
    await service.say("warm", "Ann", "Hello.")

    async def converse(dialogue: str) -> None:
        for n in range(8):
            assert (await service.say(dialogue, "Ann", f"Line {n}.")).status_code == 201

    async with watched_steps() as steps:
        answer, _ = await asyncio.gather(
            service.client.post("/batch", json=batch),
            asyncio.gather(*(converse(f"call-{n}") for n in range(8))),
        )

    assert answer.status_code == 200
    assert steps.longest_s < LONGEST_S


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
    found = set()

    async with watched_steps() as steps:
        for path in ("/dialogues/a/utterances", "/batch", "/demonstrations"):
            answer = await service.client.post(path, content=content, headers=as_json)
            found.add(answer.status_code)
        in_lines = await service.client.post("/batch", content=content, headers=as_lines)

    assert found == {status}
    assert in_lines.status_code == 200
    assert steps.longest_s < LONGEST_S
