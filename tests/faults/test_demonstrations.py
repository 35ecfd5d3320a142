"""The Qdrant server is away, fails, hangs or is slow.

ERC_TEST_QDRANT_URL names a real one; without it a stand-in answers in its wire format.
"""

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from service.conversation.labels import load_label_spaces
from service.demonstrations.corpus import edition_of, read_demonstrations
from service.demonstrations.encoder import IDENTITY
from service.demonstrations.points import EDITION
from tests.demonstrations.test_qdrant_server import Script
from tests.e2e.conftest import REPOSITORY, Service
from tests.faults.conftest import number
from tests.faults.proxy import Proxy, to_port

CLOSED, OPEN = 0, 2
# A machine that stands still for less changes nothing.
TIMEOUT_S = 6
PAUSE_S = 12
SLOW_S = 0.15


@dataclass
class Qdrant:
    """A server with the shipped demonstrations, and the way to it.

    Attributes:
        script: what the stand-in does; None: the server is a real one.
    """

    proxy: Proxy
    settings: dict[str, str]
    script: Script | None

    def mend(self) -> None:
        if self.script is not None:
            self.script.status = 200
        self.proxy.delay_s = 0.0
        self.proxy.cut()
        self.proxy.mend()


def fails(qdrant: Qdrant) -> None:
    if qdrant.script is not None:
        qdrant.script.status = 500


def hangs(qdrant: Qdrant) -> None:
    qdrant.proxy.delay_s = 3600


def is_away(qdrant: Qdrant) -> None:
    qdrant.proxy.cut()


@pytest.fixture(scope="module")
def qdrant() -> Iterator[Qdrant]:
    if "ERC_TEST_QDRANT_URL" in os.environ:
        yield from real_server(httpx.URL(os.environ["ERC_TEST_QDRANT_URL"]))
    else:
        yield from stand_in()


def real_server(url: httpx.URL) -> Iterator[Qdrant]:
    proxy = Proxy(lambda: asyncio.open_connection(url.host, url.port or 6333))
    collection = f"faults-{uuid.uuid4()}"
    key = os.environ.get("ERC_TEST_QDRANT_API_KEY", "")
    settings = {"ERC_QDRANT__COLLECTION": collection, "ERC_QDRANT__API_KEY": key}
    yield Qdrant(proxy, settings, None)
    httpx.delete(url.join(f"/collections/{collection}"), headers={"api-key": key} if key else {})
    proxy.close()


def stand_in() -> Iterator[Qdrant]:
    """On a thread of its own."""
    data = REPOSITORY / "data"
    spaces = load_label_spaces(data / "label_spaces")
    shipped = read_demonstrations(data / "demonstrations.jsonl", spaces)
    script = Script()
    script.metadata = {"encoder": IDENTITY, EDITION: edition_of(shipped, IDENTITY)}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve() -> int:
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    proxy = Proxy(to_port(asyncio.run_coroutine_threadsafe(serve(), loop).result(60)))
    yield Qdrant(proxy, {"ERC_QDRANT__COLLECTION": "c"}, script)
    proxy.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def served(mortal: Service, qdrant: Qdrant) -> Service:
    mortal.environment |= qdrant.settings | {
        "ERC_QDRANT__URL": f"http://127.0.0.1:{qdrant.proxy.port}",
        "ERC_QDRANT__TIMEOUT_S": str(TIMEOUT_S),
        "ERC_DEMONSTRATIONS__BREAKER_THRESHOLD": "3",
        "ERC_DEMONSTRATIONS__BREAKER_RESET_S": str(PAUSE_S),
    }
    mortal.start()
    return mortal


def timed(service: Service) -> tuple[list[str], float]:
    """What an answer goes without, and its seconds."""
    start = time.monotonic()
    answer = service.say("call", "Ann", "Are you there?")
    return answer["degraded"], time.monotonic() - start


def check_fault(service: Service, qdrant: Qdrant, fault: Callable[[Qdrant], None]) -> None:
    """The first ones wait for it, the next ones do not; once it is back it is used again."""
    assert timed(service)[0] == []
    fault(qdrant)
    slow = [timed(service) for _ in range(3)]
    quick = [timed(service) for _ in range(5)]

    assert {degraded[0] for degraded, _ in slow + quick} == {"demonstrations"}
    assert max(seconds for _, seconds in slow) < TIMEOUT_S + 10
    assert max(seconds for _, seconds in quick) < TIMEOUT_S
    assert number(service, "erc_demonstrations_breaker") == OPEN
    ready = service.client.get("/readyz")
    assert (ready.status_code, ready.json()["degraded"]) == (200, ["demonstrations"])

    qdrant.mend()
    time.sleep(PAUSE_S + 0.1)
    assert timed(service)[0] == []
    assert number(service, "erc_demonstrations_breaker") == CLOSED
    assert service.client.get("/readyz").json()["degraded"] == []


def check_correction(service: Service, qdrant: Qdrant) -> None:
    """It is stored while the server is away, and said to be shown later."""
    where = "/dialogues/call/utterances/0/label"
    body = {"label": "joy", "label_space": "meld"}
    is_away(qdrant)
    stored = service.client.put(where, json=body)
    refused = service.client.post(
        "/demonstrations", json={"demonstrations": [{**body, "text": "Hip hip!"}]}
    )
    qdrant.mend()

    assert (stored.status_code, stored.json()["degraded"]) == (200, ["demonstrations"])
    assert refused.status_code == 503
    assert refused.json()["type"] == "/problems/demonstrations-unavailable"


def check_slow(service: Service, qdrant: Qdrant) -> None:
    """Within its time it is waited for: answers come later, with demonstrations."""
    qdrant.proxy.delay_s = SLOW_S
    times = [timed(service) for _ in range(5)]
    qdrant.mend()

    assert [degraded for degraded, _ in times] == [[]] * 5
    assert min(seconds for _, seconds in times) > 2 * SLOW_S


def test_answers_go_on_without_a_server_that_does_not_answer(
    served: Service, qdrant: Qdrant
) -> None:
    """Marked so, and soon without waiting for it; slow, it is used; nothing asked of it is lost."""
    on_command = () if qdrant.script is None else (fails,)
    for fault in (hangs, is_away, *on_command):
        check_fault(served, qdrant, fault)
    check_slow(served, qdrant)
    check_correction(served, qdrant)
