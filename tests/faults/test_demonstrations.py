"""The Qdrant server is away, or slow."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from service.conversation.labels import load_label_spaces
from service.demonstrations.corpus import edition_of, read_demonstrations
from service.demonstrations.encoder import IDENTITY
from service.demonstrations.points import EDITION
from tests.demonstrations.test_server import Script
from tests.e2e.conftest import REPOSITORY, Service
from tests.faults.conftest import number

CLOSED, OPEN = 0, 2


@pytest.fixture
def qdrant() -> Iterator[Script]:
    """A stand-in for a server that holds the shipped demonstrations, on a thread of its own."""
    data = REPOSITORY / "data"
    spaces = load_label_spaces(data / "label_spaces")
    shipped = read_demonstrations(data / "demonstrations.jsonl", spaces)
    script = Script()
    script.metadata = {"encoder": IDENTITY, EDITION: edition_of(shipped, IDENTITY)}
    loop = asyncio.new_event_loop()
    listening = threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
        script.port = server.sockets[0].getsockname()[1]
        listening.set()

    async def end() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.1)

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert listening.wait(10)
    yield script
    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def served(mortal: Service, qdrant: Script) -> Service:
    mortal.environment |= {
        "ERC_QDRANT__URL": qdrant.url,
        "ERC_QDRANT__COLLECTION": "c",
        "ERC_QDRANT__TIMEOUT_S": "1",
        "ERC_DEMONSTRATIONS__FAILURES": "3",
        "ERC_DEMONSTRATIONS__PAUSE_S": "3",
    }
    mortal.start()
    return mortal


def timed(service: Service) -> tuple[list[str], float]:
    """What an answer goes without, and its seconds."""
    start = time.monotonic()
    answer = service.say("call", "Ann", "Are you there?")
    return answer["degraded"], time.monotonic() - start


def test_answers_go_on_without_a_server_that_fails_or_hangs(
    served: Service, qdrant: Script
) -> None:
    """The first ones wait for it, the next ones do not; once it is back it is used again."""
    assert timed(served)[0] == []

    for fault in ("fails", "hangs"):
        qdrant.status = 500 if fault == "fails" else 200
        qdrant.hangs = fault == "hangs"
        slow = [timed(served) for _ in range(3)]
        asked = len(qdrant.requests)
        quick = [timed(served) for _ in range(5)]

        assert {degraded[0] for degraded, _ in slow + quick} == {"demonstrations"}
        assert max(seconds for _, seconds in slow) < 3
        assert max(seconds for _, seconds in quick) < 1
        assert len(qdrant.requests) <= asked + 1
        assert number(served, "erc_demonstrations_breaker") == OPEN
        ready = served.client.get("/readyz")
        assert (ready.status_code, ready.json()["degraded"]) == (200, ["demonstrations"])

        qdrant.status, qdrant.hangs = 200, False
        time.sleep(3.1)
        assert timed(served)[0] == []
        assert number(served, "erc_demonstrations_breaker") == CLOSED
    assert served.client.get("/readyz").json()["degraded"] == []
