"""An application on a port, with the server that ends as the service does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from service.api.connections.protocol import bounded
from service.draining import DrainingServer
from tests.api.conftest import Service
from tests.clock import PATIENT_S


@dataclass
class Served:
    """A server, a client of it, and the task that ends with it."""

    server: DrainingServer
    client: httpx.AsyncClient
    ends: "asyncio.Task[None]"
    port: int


@asynccontextmanager
async def serving(
    service: Service,
    grace_s: float = PATIENT_S,
    connections: int = 100,
    head_s: float = PATIENT_S,
    unread_s: float = 10,
    prefix: str = "",
    origins: tuple[str, ...] = (),
) -> AsyncIterator[Served]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await service.app(scope | {"state": dict(service.state)}, receive, send)

    metrics = service.services.metrics
    ports: asyncio.Queue[int] = asyncio.Queue()
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_config=None,
        http=bounded(  # type: ignore[arg-type]  # it takes any callable
            connections,
            metrics.count_rejection,
            metrics.count_problem,
            head_s,
            unread_s,
            prefix=prefix,
            origins=origins,
        ),
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = DrainingServer(config, service.door, grace_s, ports.put_nowait)
    ends = asyncio.create_task(server._serve())
    port = await asyncio.wait_for(ports.get(), PATIENT_S)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENT_S) as client:
            yield Served(server, client, ends, port)
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await ends
