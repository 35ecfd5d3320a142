"""SIGTERM and SIGINT under load."""

import asyncio
import signal
import time
from functools import partial

import httpx
import pytest

from tests.e2e.conftest import Service
from tests.faults.conftest import Load, eventually, is_refused, whole_batch
from tests.faults.conftest import number as metric

GRACE_S = 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_asked_to_end_it_finishes_what_it_has_begun(
    mortal: Service, number: signal.Signals
) -> None:
    """It ends with status 0 within its time; what was acknowledged is stored, the rest refused."""
    mortal.start()
    load = Load()
    batch_status, not_ready, refusal = asyncio.run(end_under_load(mortal, load, number))
    start = time.monotonic()
    status = mortal.process.wait(2 * GRACE_S)
    print(f"ended {time.monotonic() - start:.1f} s after the last answer: {load.answers}")

    assert status == 0
    assert batch_status == 200
    assert not_ready == 503
    assert refusal.status_code == 503
    assert refusal.json()["type"] == "/problems/shutting-down"
    assert refusal.headers["connection"] == "close"
    assert refusal.headers["retry-after"]
    assert load.answers[201] > 0
    assert set(load.answers) <= {201, 503, "none"}
    assert load.unfair == []
    mortal.start()
    for dialogue in load.stored[-50:]:
        assert mortal.client.get(f"/dialogues/{dialogue}").status_code == 200


async def end_under_load(
    service: Service, load: Load, number: signal.Signals
) -> tuple[int, int, httpx.Response]:
    """The batch's status, that of /readyz after the signal, and what a new request was told."""
    ended = False
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        batch = asyncio.create_task(client.post("/batch", json=whole_batch(500)))
        callers = asyncio.create_task(load.keep_saying(service.url, 4, lambda: ended))
        under_way = partial(metric, service, "erc_requests_in_flight", priority="batch")
        await asyncio.to_thread(eventually, lambda: under_way() and load.stored, 60)
        service.process.send_signal(number)
        await asyncio.to_thread(eventually, lambda: is_refused(service), 15)
        refusal = await client.post(
            "/dialogues/late/utterances", json={"speaker": "Ann", "text": "Wait!"}
        )
        ready = await client.get("/readyz")
        ended = True
        await callers
        return (await batch).status_code, ready.status_code, refusal
