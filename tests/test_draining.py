"""How the server ends, on a port of its own; what it serves only waits."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.routing import Route

from service.access.callers import ANYBODY
from service.admission.door import Door, DoorOptions
from service.api.middleware.admission import AdmittedRequests
from service.api.policies import Policies, RoutePolicies, policy
from service.draining import DrainingServer
from service.priority import Priority
from tests.clock import PATIENT_S, until


class Waiting:
    """Answers once it is let go; requests of the kind that ends by itself, `/livez`, at once."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.under_way = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await receive()
        if scope["path"] != "/livez":
            self.under_way.set()
            await self.let_go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def serving(
    app: Waiting, grace_s: float
) -> AsyncIterator[tuple[DrainingServer, httpx.AsyncClient, "asyncio.Task[None]"]]:
    """A server that has started, a client of it, and what ends with it."""
    door = Door(
        DoorOptions(most=dict.fromkeys(Priority, 8), deadline_s=dict.fromkeys(Priority, 10_000.0)),
        lambda _: None,
    )
    probed = Policies([Route("/livez", policy(None, priority=None)(app))])
    admitted = RoutePolicies(AdmittedRequests(app, door), probed)

    async def identified(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {}).update(request_id="r1", caller=ANYBODY)
        await admitted(scope, receive, send)

    ports: asyncio.Queue[int] = asyncio.Queue()
    config = uvicorn.Config(
        identified, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1
    )
    server = DrainingServer(config, door, grace_s, ports.put_nowait)
    ends = asyncio.create_task(server._serve())
    port = await asyncio.wait_for(ports.get(), PATIENT_S)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENT_S) as client:
        yield server, client, ends
        server.should_exit = True
        await ends


async def test_asked_to_end_it_finishes_what_is_under_way_and_refuses_the_rest() -> None:
    """Probes are answered meanwhile; then it ends by itself."""
    app = Waiting()
    async with serving(app, grace_s=10_000) as (server, client, ends):
        begun = asyncio.create_task(client.get("/"))
        await app.under_way.wait()

        server.handle_exit(signal.SIGTERM, None)
        refused = await client.get("/")
        probe = await client.get("/livez")
        await asyncio.sleep(0.3)
        assert not ends.done()
        app.let_go.set()

        assert (await begun).status_code == 200
        assert refused.status_code == 503
        assert refused.json()["type"] == "/problems/shutting-down"
        assert refused.headers["connection"] == "close"
        assert refused.headers["retry-after"] == "1"
        assert probe.status_code == 200
        await asyncio.wait_for(asyncio.shield(ends), PATIENT_S)


async def test_what_does_not_finish_in_time_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 503, not with a broken connection."""
    now = 0.0
    monkeypatch.setattr("service.draining.monotonic", lambda: now)
    app = Waiting()
    async with serving(app, grace_s=10_000) as (server, client, ends):
        begun = asyncio.create_task(client.get("/"))
        await app.under_way.wait()

        server.handle_exit(signal.SIGTERM, None)
        now = 10_001.0

        assert (await begun).status_code == 503
        await asyncio.wait_for(asyncio.shield(ends), PATIENT_S)


async def test_a_server_with_nothing_to_do_ends_at_once_and_a_second_signal_does_not_wait() -> None:
    """Nobody has to kill it."""
    idle = Waiting()
    async with serving(idle, grace_s=10_000) as (server, _, ends):
        server.handle_exit(signal.SIGINT, None)
        await asyncio.wait_for(asyncio.shield(ends), PATIENT_S)

    busy = Waiting()
    async with serving(busy, grace_s=10_000) as (server, client, ends):
        begun = asyncio.create_task(client.get("/"))
        await busy.under_way.wait()
        server.handle_exit(signal.SIGTERM, None)
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.wait_for(asyncio.shield(ends), PATIENT_S)
        await asyncio.wait([begun])


async def test_a_client_that_leaves_a_real_connection_ends_its_request() -> None:
    """Its place is free at once."""
    app = Waiting()
    async with serving(app, grace_s=10_000) as (server, client, _):
        begun = asyncio.create_task(client.get("/"))
        await app.under_way.wait()
        assert not server._door.empty

        begun.cancel()

        await until(lambda: server._door.empty)
