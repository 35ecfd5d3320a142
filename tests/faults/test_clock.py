"""The clock is set ahead and back while the service runs."""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Service, environment
from tests.faults.conftest import eventually, whole_batch
from tests.faults.ledger import events_of

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
SEEN_S = 1.5  # until a step is seen: the library looks every second
HOUR_S = 3600


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[tuple[Service, Callable[[int], None]]]:
    """A service, and how to set its clock: so many seconds ahead of the true one.

    Its monotonic clock goes on as it does when a real one is set.
    """
    if not LIBRARIES:
        pytest.skip("libfaketime is not there: apt-get install libfaketime")
    offset = tmp_path / "offset"

    def step(seconds: int) -> None:
        offset.write_text(f"{seconds:+d}\n")
        time.sleep(SEEN_S)

    offset.write_text("+0\n")
    service = Service(
        tmp_path,
        environment(tmp_path)
        | {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(offset),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    service.start()
    yield service, step
    if service.process.poll() is None:
        service.process.kill()
        service.process.wait()


def test_a_clock_that_is_set_costs_no_request_and_no_result(
    stepped: tuple[Service, Callable[[int], None]],
) -> None:
    """Hours ahead, then back: utterances keep their order, keys their answers, a stream of events
    goes on, no deadline passes, and a job that was under way has each result once.
    """
    service, step = stepped
    responses: list[Any] = []

    def say() -> None:
        key = {"Idempotency-Key": f"say-{len(responses)}"}
        body = {"speaker": "Ann", "text": f"line {len(responses)}", "label_space": "meld"}
        answer = service.client.post("/dialogues/call/utterances", json=body, headers=key)
        assert answer.status_code == 201, answer.text
        again = service.client.post("/dialogues/call/utterances", json=body, headers=key)
        assert again.content == answer.content
        responses.append(answer.json())

    say()
    thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    following = thread.submit(asyncio.run, texts_of_events(service, 4))
    job = service.client.post("/batch", json=whole_batch(900), headers={"Prefer": "respond-async"})
    for offset_s in (2 * HOUR_S, -HOUR_S, 0):
        step(offset_s)
        said_at = time.time() + offset_s
        say()
        for probe in ("readyz", "livez"):
            assert service.client.get(f"/{probe}").status_code == 200
        last = service.client.get("/dialogues/call", params={"after": len(responses) - 2}).json()
        moment = datetime.fromisoformat(last["utterances"][0]["created_at"])
        assert abs(moment.timestamp() - said_at) < 60

    timeline = service.client.get("/dialogues/call").json()["utterances"]
    assert [each["index"] for each in timeline] == [0, 1, 2, 3]
    assert [each["emotion"] for each in timeline] == [each["emotion"] for each in responses]
    assert following.result(60) == [each["text"] for each in responses]
    where = job.headers["location"]
    eventually(lambda: service.client.get(where).json()["state"] == "done", 60)
    results = service.client.get(f"{where}/results").text.splitlines()
    assert len(results) == service.client.get(where).json()["dialogues"] == 18


async def texts_of_events(service: Service, count: int) -> list[str]:
    received: list[str] = []
    async with (
        httpx.AsyncClient(base_url=service.url, timeout=60) as client,
        client.stream("GET", "/dialogues/call/events") as stream,
    ):
        async for _, _, data in events_of(stream):
            received.append(data["text"])
            if len(received) == count:
                break
    return received
