"""`python -m tests.bench.turn_costs`: what a turn costs each part of a fleet (docs/fleet.md).

A service stores in PostgreSQL and reads labels from vLLM's own server, through a relay that counts
bytes. Processor time is each part's own; the processes share the machine.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
import uvloop

from service.decoding.replicas import Replica, choose
from service.decoding.server import Address, KeyedHash, ModelServer
from service.decoding.watched import WatchedEngine
from service.settings import load_settings
from tests.bench.client import Client
from tests.bench.growth import turn_requests
from tests.bench.load import closed_loop
from tests.bench.machine import REPOSITORY, describe
from tests.bench.measuring import ProcessorTime, process_and_below
from tests.bench.passes import WARM_UP
from tests.bench.processes import HOST, service, vllm_server
from tests.bench.rows.engine import engine_threads
from tests.bench.setup import Setup
from tests.conftest import postgresql_server

_CALLERS = 16
_STATISTICS_S = 2.0  # PostgreSQL's processes report their counts once a second
_CHUNK = 2**16
_CHOICES = 2000
_SERVERS = (1, 10, 100, 400)

_COUNTS = """
SELECT pg_database_size(current_database()) AS stored_bytes,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS log_bytes,
       (SELECT sum(n_tup_ins)::bigint FROM pg_stat_user_tables) AS rows_added,
       (SELECT sum(n_tup_upd)::bigint FROM pg_stat_user_tables) AS rows_changed,
       (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits
"""


@dataclass(frozen=True, slots=True)
class TurnCosts:
    """What each part did for a turn, on average.

    Attributes:
        turns: that were measured, after a warm-up.
        service_ms, engine_ms, database_ms: processor time.
        to_engine_bytes, from_engine_bytes: through the connections to vLLM, headers included.
        database: the growth of PostgreSQL's files and of its write-ahead log, rows and commits.
    """

    demonstrations: bool
    turns: int
    seconds: float
    service_ms: float
    engine_ms: float
    database_ms: float
    to_engine_bytes: float
    from_engine_bytes: float
    database: Mapping[str, float]


@dataclass(slots=True)
class _Relay:
    """Passes connections on to a port, and counts their bytes.

    Attributes:
        sent, received: bytes to and from the port.
    """

    port: int
    sent: int = 0
    received: int = 0
    under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self.port)

        async def requests() -> None:
            while chunk := await reader.read(_CHUNK):
                self.sent += len(chunk)
                back.write(chunk)
                await back.drain()
            back.close()

        async def answers() -> None:
            while chunk := await there.read(_CHUNK):
                self.received += len(chunk)
                writer.write(chunk)
                await writer.drain()
            writer.close()

        for direction in (requests(), answers()):
            task = asyncio.create_task(direction)
            self.under_way.add(task)
            task.add_done_callback(self.under_way.discard)


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[tuple[_Relay, int]]:
    """A relay to a port, and the port that it listens at."""
    relay = _Relay(port)
    server = await asyncio.start_server(relay.accept, HOST, 0)
    try:
        yield relay, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in relay.under_way:
            task.cancel()


@dataclass(frozen=True, slots=True)
class _Database:
    url: str
    pid: int

    async def counts(self) -> dict[str, int]:
        await asyncio.sleep(_STATISTICS_S)
        connection = await asyncpg.connect(self.url)
        try:
            return dict(await connection.fetchrow(_COUNTS))
        finally:
            await connection.close()


@contextmanager
def _database() -> Iterator[_Database]:
    with postgresql_server() as server:
        server.psql("CREATE DATABASE turns")
        pid = int((server.pgdata / "postmaster.pid").read_text().splitlines()[0])
        yield _Database(server.get_uri(database="turns"), pid)


async def measure(setup: Setup, demonstrations: bool) -> TurnCosts:
    """Say the measured passes to a service with a database and an engine of their own."""
    bundle, _ = setup.load_bundle()
    with (
        _database() as database,
        vllm_server(setup, load_settings(), bundle.max_tokens, engine_threads()) as engine,
    ):
        async with relayed(engine.port) as (relay, port):
            settings = {
                "ERC_DATABASE__URL": database.url,
                "ERC_ENGINE__URLS": f"http://{HOST}:{port}",
                "ERC_ENGINE__MODEL": "bundle",
            }
            # Its start waits for answers that come through the relay, which this loop serves.
            opening = service(setup, demonstrations, settings=settings)
            served = await asyncio.to_thread(opening.__enter__)
            try:
                async with Client(HOST, served.port) as client:

                    async def say(number: int) -> int:
                        sequences = [
                            turn_requests(f"{number}-{dialogue.id}", dialogue.utterances)
                            for dialogue in setup.passes(number)
                        ]
                        samples = await closed_loop(client.send, sequences, _CALLERS)
                        refused = [s.answer for s in samples if not s.answer.ok]
                        if refused:
                            raise ValueError(f"not answered: {refused[0]}")
                        return len(samples)

                    await say(WARM_UP)
                    before = await database.counts()
                    sent, received = relay.sent, relay.received
                    times = [
                        ProcessorTime(partial(process_and_below, pid))
                        for pid in (served.pid, engine.pid, database.pid)
                    ]
                    began = time.perf_counter()
                    turns = sum([await say(number) for number in setup.measured_passes])
                    seconds = time.perf_counter() - began
                    service_s, engine_s, database_s = (each.seconds() for each in times)
                    sent, received = relay.sent - sent, relay.received - received
                    after = await database.counts()
            finally:
                await asyncio.to_thread(opening.__exit__, None, None, None)
    return TurnCosts(
        demonstrations=demonstrations,
        turns=turns,
        seconds=seconds,
        service_ms=1000 * service_s / turns,
        engine_ms=1000 * engine_s / turns,
        database_ms=1000 * database_s / turns,
        to_engine_bytes=sent / turns,
        from_engine_bytes=received / turns,
        database={name: (after[name] - before[name]) / turns for name in after},
    )


async def choice_ms(servers: int) -> float:
    """What the choice of a server for a read takes, by how many there are."""
    import aiohttp

    async with aiohttp.ClientSession() as http:
        hashed = KeyedHash("key")
        replicas = []
        for number in range(servers):
            address = Address(f"http://gpu-{number}:8000", "127.0.0.1")
            server = ModelServer(address, "bundle", hashed, http)
            replicas.append(Replica(server, WatchedEngine(server)))
        began = time.process_time()
        for number in range(_CHOICES):
            choose(replicas, hashed.of_dialogue((None, f"call-{number}")))
        return 1000 * (time.process_time() - began) / _CHOICES


def main(
    bundle: Annotated[Path, typer.Option(help="Folder of the model bundle.")] = (
        REPOSITORY / "build" / "bundles" / "erc-mini"
    ),
    quick: Annotated[bool, typer.Option(help="Less of everything, for a first look.")] = False,
    out: Annotated[Path | None, typer.Option(help="File of the results, as JSON.")] = None,
) -> None:
    """Measure what a turn costs service, engine and database, each by itself."""
    described: dict[str, Any] = describe() | {"date": datetime.now(UTC).date().isoformat()}
    costs = []
    for demonstrations in (False, True):
        print(f"demonstrations: {demonstrations}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            setup = Setup(bundle=str(bundle.resolve()), folder=folder, quick=quick)
            costs.append(asdict(uvloop.run(measure(setup, demonstrations))))
    choices = {str(servers): uvloop.run(choice_ms(servers)) for servers in _SERVERS}
    found = {"turn_costs": costs, "choice_ms": choices}
    print(json.dumps(found, indent=1))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(described | found, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
