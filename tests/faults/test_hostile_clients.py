"""Clients that want the service's places and memory, and nothing else; none of them has a key."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.e2e.conftest import Service, environment
from tests.faults.conftest import LONGEST_WAIT_S, eventually, number

DATABASES = os.environ.get("ERC_TEST_DATABASES", "sqlite").split(",")
PLACES = 2048  # ERC_ADMISSION__CONNECTIONS
MORE_MB = 100  # which an attack may take, on top of what the service has
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LINES = (
    b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
TINY = b"a:b\r\n" * 100_000
TLS = bytes.fromhex("16030100f8010000f40303")
UPGRADE = LIVEZ[:-2] + (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

# What is sent first, and what once it is answered.
HELD = {
    "nothing": (b"", b""),
    "half a head": (LIVEZ[:-2], b""),
    "a request": (LIVEZ, b""),
    "a blank line": (LIVEZ, b"\r\n"),
    "half a second head": (LIVEZ, LIVEZ[:-2]),
    "an upgrade": (UPGRADE, b"\x81\x80"),
    "a byte of a body": (LIVEZ[:-2] + b"Content-Length: 5\r\n\r\n", b"a"),
    "half a chunk": (LIVEZ[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\na"),
    "TLS": (TLS, b""),
}
# What is sent first, and what again and again.
FLOODS = {
    "tiny headers": (LIVEZ[:-2], TINY),
    "a header": (LIVEZ[:-2] + b"A: ", b"a" * 500_000),
    "a path": (b"GET /", b"a" * 500_000),
    "blank lines": (LIVEZ, b"\r\n" * 250_000),
    "trailers": (LINES + b"0\r\n", TINY),
    "trailers after a refusal": (LINES.replace(b"/batch", b"/nothing") + b"0\r\n", TINY),
    "a chunk's extension": (LINES + b"1;", b"a" * 500_000),
    "chunks' extensions": (LINES, (b"1;" + b"a" * 60_000 + b"\r\n\n\r\n") * 8),
    "a refused body": (LIVEZ[:-2] + b"Content-Length: 99999999999\r\n\r\n", b"a" * 500_000),
    "requests": (LIVEZ, LIVEZ * 10_000),
    "requests for pages": (LIVEZ, LIVEZ.replace(b"livez", b"metrics") * 10_000),
    "requests behind a body": (LINES + b"1\r\n\n\r\n0\r\n\r\n", LIVEZ * 10_000),
}


@pytest.fixture(scope="module", params=DATABASES)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """One service for all of them, on each database."""
    folder = tmp_path_factory.mktemp("hostile")
    running = Service(folder, environment(folder))
    if request.param == "postgresql":
        postgres: Any = request.getfixturevalue("postgres")
        postgres.psql("CREATE DATABASE hostile")
        running.environment["ERC_DATABASE__URL"] = postgres.get_uri(database="hostile")
    running.start()
    yield running
    assert running.stop() == 0


def connect(service: Service) -> socket.socket:
    there = urlsplit(service.url)
    assert there.hostname is not None
    assert there.port is not None
    return socket.create_connection((there.hostname, there.port), timeout=60)


@contextmanager
def held(service: Service, connections: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections on which something was sent, and nothing is read."""
    with ExitStack() as all_of_them:
        opened = []
        for _ in range(connections):
            opened.append(all_of_them.enter_context(connect(service)))
            with suppress(OSError):  # the service may have closed it
                opened[-1].sendall(sent)
        yield opened


def open_connections(service: Service) -> int:
    process = psutil.Process(service.process.pid)
    return sum(c.status == psutil.CONN_ESTABLISHED for c in process.net_connections("tcp"))


def megabytes(service: Service) -> float:
    return float(psutil.Process(service.process.pid).memory_info().rss / 1e6)


def is_alive(service: Service) -> bool:
    return httpx.get(f"{service.url}/livez", timeout=30).status_code == 200


@pytest.mark.parametrize(("first", "then"), HELD.values(), ids=HELD)
def test_held_connections_shut_nobody_out(service: Service, first: bytes, then: bytes) -> None:
    """Those that wait for their clients make way after a second, and are closed after a while."""
    before = open_connections(service)

    with held(service, PLACES, first) as connections:
        for connection in connections if then else ():
            with suppress(OSError):  # it may have made way
                connection.recv(1)
                connection.send(then)
        came_in_s = eventually(lambda: is_alive(service), 30)
        free_s = eventually(lambda: open_connections(service) <= before, 60)

    print(f"another was answered after {came_in_s:.1f} s, all were closed after {free_s:.1f} s")


@pytest.mark.parametrize(("first", "then"), FLOODS.values(), ids=FLOODS)
def test_a_flood_takes_no_memory_and_no_time(service: Service, first: bytes, then: bytes) -> None:
    """Whatever it is of, and though no answer is read; others are answered meanwhile."""
    before = most = megabytes(service)
    slowest_s = sent = 0.0

    with held(service, 20, first) as connections:
        for connection in connections:
            connection.setblocking(False)
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for connection in connections:
                with suppress(OSError):  # it takes no more now, or is closed
                    sent += connection.send(then) / 1e6
            start = time.monotonic()
            assert is_alive(service)
            slowest_s = max(slowest_s, time.monotonic() - start)
            most = max(most, megabytes(service))

    print(f"{sent:.0f} MB sent, {most - before:.0f} MB kept, answers within {slowest_s:.2f} s")
    assert most - before < MORE_MB
    assert slowest_s < max(3, LONGEST_WAIT_S)


def test_what_cannot_be_read_is_counted_and_not_logged(service: Service) -> None:
    """Nor does a client that resets its connection leave a word."""
    logged = len(service.output)
    before = number(service, "erc_problems_total", type="bad-request")

    for reset in (False, True):
        for sent in [b"\0\r\n", b"garbage\r\n", TLS, UPGRADE] * 25:
            with connect(service) as connection:
                connection.sendall(sent)
                if reset:
                    at_once = (1).to_bytes(4, "little") + bytes(4)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                else:
                    connection.recv(1)

    counted = number(service, "erc_problems_total", type="bad-request") - before
    assert counted >= 75
    assert service.output[logged:] == []
