"""Whether anything keeps the event loop waiting, and so everybody."""

import asyncio
import sys
import time

import httpx

from tests.e2e.conftest import Service
from tests.faults.conftest import Load, number, whole_batch

SECONDS = 8
# Counts how often a process is late that does nothing but sleep: the machine's doing.
SLEEPER = (
    sys.executable,
    "-c",
    """
import sys, threading, time
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
late = 0
while not ended.is_set():
    due = time.monotonic() + 0.02
    time.sleep(0.02)
    late += time.monotonic() - due > 0.05
print(late)
""",
)


def blocked(service: Service) -> float:
    """How often the event loop was more than 50 ms late."""
    name = "erc_event_loop_lag_seconds"
    return number(service, f"{name}_count") - number(service, f"{name}_bucket", le="0.05")


def test_the_event_loop_is_never_kept_waiting_under_load(service: Service) -> None:
    """Batches and conversations at once: no lag of 50 ms that the machine does not explain."""
    before = blocked(service)
    load = Load()

    starved = asyncio.run(work_and_watch(service, load))

    late = blocked(service) - before
    print(f"late {late:.0f} times in {SECONDS} s; a process that does nothing: {starved} times")
    assert load.answers[201] > 0
    assert late <= starved


async def work_and_watch(service: Service, load: Load) -> int:
    """Load the service; how often a process that only sleeps was late meanwhile."""
    sleeper = await asyncio.create_subprocess_exec(
        *SLEEPER, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE
    )
    until = time.monotonic() + SECONDS
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        callers = asyncio.create_task(
            load.keep_saying(service.url, 4, lambda: time.monotonic() > until)
        )
        while time.monotonic() < until:
            assert (await client.post("/batch", json=whole_batch(200))).is_success
        await callers
    told, _ = await sleeper.communicate(b"end\n")
    return int(told)
