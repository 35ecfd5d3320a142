"""PostgreSQL stops, hangs or is slow, and comes back."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest

from tests.conftest import postgresql_server
from tests.e2e.conftest import Service, environment
from tests.faults.conftest import REMARKS, eventually, is_refused
from tests.faults.proxy import Proxy, to_socket
from tests.faults.starting import QuickService, Starter

TALKERS = 4
READY_S = 15  # after PostgreSQL is back
SLOW_S = 0.05
WAITS_S = 35  # at most, until a refusal: the deadline and what a slow machine adds

_numbers = count()


@dataclass
class Insistence:
    """Callers who send each utterance, under its key, until it is acknowledged.

    Attributes:
        said: of each dialogue, in order.
        statuses: of all answers; "none" where no answer came.
        acknowledged: how often each text was.
        unfair: refusals that do not say when to come again.
    """

    said: dict[str, list[str]] = field(default_factory=dict)
    statuses: Counter[int | str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    unfair: list[str] = field(default_factory=list)

    async def talk(self, client: httpx.AsyncClient, over: asyncio.Event) -> None:
        dialogue = f"insistent-{next(_numbers)}"
        texts = self.said.setdefault(dialogue, [])
        while not over.is_set():
            texts.append(f"{REMARKS[len(texts) % 4]} {len(texts)}")
            while True:
                if await self._is_acknowledged(client, dialogue, len(texts) - 1, texts[-1]):
                    break
                await asyncio.sleep(0.2)

    async def _is_acknowledged(
        self, client: httpx.AsyncClient, dialogue: str, n: int, text: str
    ) -> bool:
        start = time.monotonic()
        answer = await client.post(
            f"/dialogues/{dialogue}/utterances",
            json={"speaker": "Ann", "text": text},
            headers={"Idempotency-Key": f"{dialogue}-{n}"},
        )
        self.slowest_s = max(self.slowest_s, time.monotonic() - start)
        self.statuses[answer.status_code] += 1
        if answer.is_success:
            assert answer.json()["index"] == n
            return True
        if "retry-after" not in answer.headers:
            self.unfair.append(answer.text)
        return False


def talk_during(service: Service, fault: Callable[[Insistence], None]) -> Insistence:
    """What came of callers who talk before, during and after a fault, which sees what has come."""
    insistence = Insistence()
    over = asyncio.Event()

    async def talk() -> None:
        async with (
            httpx.AsyncClient(base_url=service.url, timeout=60) as client,
            asyncio.TaskGroup() as talking,
        ):
            for _ in range(TALKERS):
                talking.create_task(insistence.talk(client, over))
            await asyncio.sleep(1)
            await asyncio.to_thread(fault, insistence)
            over.set()

    asyncio.run(talk())
    print(f"{dict(insistence.statuses)}, the slowest after {insistence.slowest_s:.1f} s")
    return insistence


def check_said(service: Service, insistence: Insistence) -> None:
    """All of it is stored, once, in order."""
    assert len(insistence.said) == TALKERS
    for dialogue, texts in insistence.said.items():
        stored = service.client.get(f"/dialogues/{dialogue}").json()["utterances"]
        assert [each["text"] for each in stored] == texts
    assert insistence.unfair == []


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A PostgreSQL server that these tests have for themselves."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="module")
def way(server: Any) -> Iterator[Proxy]:
    folder = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    proxy = Proxy(to_socket(f"{folder}/.s.PGSQL.5432"))
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def stored(
    starter: Starter, way: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with its dialogues on that server."""
    folder = tmp_path_factory.mktemp("stored")
    url = f"postgresql://postgres@127.0.0.1:{way.port}/postgres"
    service = QuickService(folder, environment(folder) | {"ERC_DATABASE__URL": url}, starter)
    service.start()
    yield service
    assert service.stop() == 0


def processes(server: Any) -> list[psutil.Process]:
    main = psutil.Process(server.get_pid())
    return [main, *main.children(recursive=True)]


@contextmanager
def frozen(server: Any) -> Iterator[None]:
    pids = processes(server)
    for each in pids:
        each.suspend()
    try:
        yield
    finally:
        for each in pids:
            each.resume()


def check_refusals(service: Service) -> None:
    """While the database is away: not ready, but alive; reads and writes are refused, in time."""
    eventually(lambda: is_refused(service), READY_S)
    ready = httpx.get(f"{service.url}/readyz")
    assert ready.json()["checks"]["database"] != "ok"
    assert ready.json()["checks"]["engine"] == "ok"
    assert httpx.get(f"{service.url}/livez", timeout=10).status_code == 200
    start = time.monotonic()
    read = httpx.get(f"{service.url}/dialogues/insistent-0", timeout=60)
    assert read.status_code in (503, 504)
    assert time.monotonic() - start < WAITS_S


def test_a_server_that_is_killed_costs_nothing_that_was_acknowledged(
    stored: Service, server: Any
) -> None:
    """While it is away writes are refused with 503; once it is back the service is ready again, of
    itself, and each utterance that callers insisted on is stored once.
    """

    def kill_and_start(_insistence: Insistence) -> None:
        killed = processes(server)
        for each in killed:
            each.kill()
        check_refusals(stored)
        psutil.wait_procs(killed, timeout=20)
        server.ensure_postgres_running()
        ready_s = eventually(lambda: not is_refused(stored), READY_S)
        print(f"ready {ready_s:.1f} s after PostgreSQL was back")
        time.sleep(1)

    insistence = talk_during(stored, kill_and_start)

    assert set(insistence.statuses) == {201, 503}
    check_said(stored, insistence)


def test_a_server_that_hangs_keeps_nobody_waiting_for_ever(stored: Service, server: Any) -> None:
    """Whoever waits is refused within the deadline, the process is alive, and when the server goes
    on, so does the service; what the server did late all the same is not done twice.
    """

    def freeze(insistence: Insistence) -> None:
        with frozen(server):
            check_refusals(stored)
            eventually(lambda: set(insistence.statuses) != {201}, WAITS_S)
        ready_s = eventually(lambda: not is_refused(stored), READY_S)
        print(f"ready {ready_s:.1f} s after PostgreSQL went on")
        time.sleep(1)

    insistence = talk_during(stored, freeze)

    assert {201} < set(insistence.statuses) <= {201, 503, 504}
    assert insistence.slowest_s < WAITS_S
    check_said(stored, insistence)


def test_connections_that_are_cut_are_made_anew(stored: Service, way: Proxy) -> None:
    """As by a failover, or a restart of what stands between: refused meanwhile, then as before."""

    def cut(_insistence: Insistence) -> None:
        way.cut()
        check_refusals(stored)
        way.mend()
        eventually(lambda: not is_refused(stored), READY_S)
        time.sleep(1)

    insistence = talk_during(stored, cut)

    assert set(insistence.statuses) == {201, 503}
    check_said(stored, insistence)


def test_a_slow_server_makes_answers_slow_and_nothing_else(stored: Service, way: Proxy) -> None:
    """Each statement takes 100 ms longer: nobody is refused, and the service stays ready."""

    def slow(_insistence: Insistence) -> None:
        way.delay_s = SLOW_S
        try:
            looks = []
            for _ in range(5):
                looks.append(is_refused(stored))
                time.sleep(0.5)
            assert looks.count(True) <= 1  # a look that takes two seconds is one
        finally:
            way.delay_s = 0.0

    insistence = talk_during(stored, slow)

    assert set(insistence.statuses) == {201}
    assert 2 * SLOW_S < insistence.slowest_s < 15
    check_said(stored, insistence)
