"""Whether anything keeps the event loop waiting, and so everybody."""

import asyncio
import time
from pathlib import Path

import httpx

from tests.e2e.conftest import Service
from tests.faults.conftest import Load, number, whole_batch

SECONDS = 8
LATE_S = 0.05
STALLS = 2  # of the whole machine, which is no lack of a core


def blocked(service: Service) -> float:
    """How often the event loop was more than 50 ms late."""
    name = "erc_event_loop_lag_seconds"
    return number(service, f"{name}_count") - number(service, f"{name}_bucket", le="0.05")


def starved_s(service: Service) -> float:
    """For how long threads of the service have been ready to run and had no core."""
    tasks = Path(f"/proc/{service.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e9


def test_the_event_loop_is_never_kept_waiting_under_load(service: Service) -> None:
    """Batches and conversations at once: no lag of 50 ms but what the lack of a core explains."""
    before, starved_before = blocked(service), starved_s(service)
    load = Load()

    asyncio.run(work(service, load))

    late, starved = blocked(service) - before, starved_s(service) - starved_before
    print(f"late {late:.0f} times in {SECONDS} s, in which it waited {starved:.1f} s for a core")
    assert load.answers[201] > 0
    assert late <= starved / LATE_S + STALLS


async def work(service: Service, load: Load) -> None:
    """Load the service with batches and with conversations."""
    until = time.monotonic() + SECONDS
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        callers = asyncio.create_task(
            load.keep_saying(service.url, 4, lambda: time.monotonic() > until)
        )
        while time.monotonic() < until:
            assert (await client.post("/batch", json=whole_batch(200))).is_success
        await callers
