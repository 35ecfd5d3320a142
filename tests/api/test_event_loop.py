"""Whether anything keeps the event loop, and so everybody, waiting."""

import asyncio
import gc
import time
from typing import TYPE_CHECKING

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
    gc.collect()
    gc.freeze()  # as the application does once it has started
    steps = Steps()
    watch = asyncio.create_task(steps.watch())

    async def converse(dialogue: str) -> None:
        for n in range(8):
            assert (await service.say(dialogue, "Ann", f"Line {n}.")).status_code == 201

    answer, _ = await asyncio.gather(
        service.client.post("/batch", json=batch),
        asyncio.gather(*(converse(f"call-{n}") for n in range(8))),
    )
    watch.cancel()
    gc.unfreeze()

    print(f"longest step: {1000 * steps.longest_s:.1f} ms")
    assert answer.status_code == 200
    assert steps.longest_s < LONGEST_S
