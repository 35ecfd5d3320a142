"""A running service, its engine's process, and load: faults are done to the real thing."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Service, environment
from tests.faults.starting import QuickService, Starter

NOTICED_S = 15  # from a fault of the engine to the refusals
# Of others, beside whoever does harm. On a machine that does nothing else, a second is enough.
LONGEST_WAIT_S = float(os.environ.get("ERC_TEST_LONGEST_WAIT_S", "10"))
REMARKS = ("We won! I am so happy!", "That is awful.", "Who are you?", "Fine. Whatever you say.")

_numbers = count()


def engine_of(service: Service) -> psutil.Process:
    """The process that vLLM computes in."""
    children = psutil.Process(service.process.pid).children(recursive=True)
    return max(children, key=lambda child: child.memory_info().rss)


def has_ended(process: psutil.Process) -> bool:
    """Whether it runs no more; nobody may have asked for its status yet."""
    return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)


def number(service: Service, name: str, /, **labels: str) -> float:
    """One of the service's numbers; 0 where it has not been counted yet."""
    page = httpx.get(f"{service.url}/metrics", timeout=30).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def eventually(holds: Callable[[], bool], within_s: float) -> float:
    """Wait until something holds; after how many seconds it did."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > within_s:
            pytest.fail(f"it did not come true within {within_s} s")
        time.sleep(0.1)
    return time.monotonic() - start


def is_refused(service: Service, path: str = "/readyz") -> bool:
    return httpx.get(f"{service.url}{path}", timeout=30).status_code == 503


def whole_batch(utterances: int = 500) -> dict[str, Any]:
    """A batch of dialogues of fifty utterances that were never read before."""
    log_lines = [
        {"speaker": f"S{n % 3}", "text": f"{REMARKS[n % 4]} {next(_numbers)}"}
        for n in range(utterances)
    ]
    return {
        "dialogues": [
            {"id": str(start), "utterances": log_lines[start : start + 50]}
            for start in range(0, utterances, 50)
        ]
    }


@dataclass
class Load:
    """What came of many utterances, each the first of a dialogue of its own.

    Attributes:
        answers: how many there were of each status; "none" where no answer came.
        seconds: how long each of those with 201 took.
        stored: dialogues whose utterance was acknowledged.
        unfair: refusals that do not say when to come again.
    """

    answers: Counter[int | str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    unfair: list[str] = field(default_factory=list)

    async def say(self, client: httpx.AsyncClient, headers: dict[str, str] | None = None) -> None:
        number = next(_numbers)
        start = time.monotonic()
        try:
            answer = await client.post(
                f"/dialogues/load-{number}/utterances",
                json={"speaker": "Ann", "text": f"{REMARKS[number % 4]} {number}"},
                headers=headers,
            )
        except httpx.TransportError:
            self.answers["none"] += 1
            return
        self.answers[answer.status_code] += 1
        if answer.status_code == 201:
            self.seconds.append(time.monotonic() - start)
            self.stored.append(f"load-{number}")
        elif "retry-after" not in answer.headers:
            self.unfair.append(answer.text)

    async def keep_saying(self, url: str, callers: int, until: Callable[[], bool]) -> None:
        """Callers that each ask again once they are answered."""

        async def caller(client: httpx.AsyncClient) -> None:
            while not until():
                await self.say(client)

        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            await asyncio.gather(*(caller(client) for _ in range(callers)))


def rate(service: Service, seconds: float, callers: int = 16) -> float:
    """Utterances a second that so many callers get answered."""
    load = Load()
    start = time.monotonic()
    asyncio.run(load.keep_saying(service.url, callers, lambda: time.monotonic() > start + seconds))
    return load.answers[201] / (time.monotonic() - start)


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    starter = Starter(tmp_path_factory.mktemp("starter"))
    yield starter
    starter.close()


@pytest.fixture
def mortal(starter: Starter, tmp_path: Path) -> Iterator[Service]:
    """A service for a test that ends it, or sets it up; it is not started yet."""
    running = QuickService(tmp_path, environment(tmp_path), starter)
    yield running
    if hasattr(running, "process") and running.process.poll() is None:
        for child in psutil.Process(running.process.pid).children(recursive=True):
            os.kill(child.pid, signal.SIGCONT)
        running.process.kill()
        running.process.wait()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the faults that it survives."""
    folder = tmp_path_factory.mktemp("faults")
    running = Service(folder, environment(folder))
    running.start()
    yield running
    if running.process.poll() is None:
        running.stop()
