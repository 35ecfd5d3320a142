"""Connections, opened by clients that know no manners."""

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.settings import Admission, Limits
from tests.api.numbers import at, numbers
from tests.api.serving import Served, serving
from tests.clock import PATIENT_S, Clock

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
SAID = json.dumps({"speaker": "Ann", "text": "We won!"}).encode()
LONG = 70_000


def request(method: bytes, path: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    line = method + b" " + path + b" HTTP/1.1"
    return b"\r\n".join([line, b"Host: localhost", *headers, b"", body])


def post_with(*headers: bytes) -> bytes:
    """An utterance is posted."""
    about = (b"Content-Type: application/json", b"Content-Length: %d" % len(SAID))
    return request(b"POST", b"/dialogues/call-42/utterances", *about, *headers, body=SAID)


def in_chunks(path: bytes, *chunks: bytes, media_type: bytes = b"application/x-ndjson") -> bytes:
    """The head of a request with a chunked body, and some of its chunks."""
    about = (b"Transfer-Encoding: chunked", b"Content-Type: " + media_type)
    return request(b"POST", path, *about) + b"".join(
        b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks
    )


async def connect(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", served.port)


@asynccontextmanager
async def connected(
    served: Served, sent: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await connect(served)
    writer.write(sent)
    yield reader, writer
    writer.close()


async def answered(served: Served, sent: bytes) -> bytes:
    """All that is answered until the service closes the connection."""
    async with connected(served, sent) as (reader, _):
        return await asyncio.wait_for(reader.read(), PATIENT_S)


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def last_problem(received: bytes) -> tuple[int, str]:
    """The status and the type of a connection's last answer, which says that it is the last."""
    *_, last = re.finditer(rb"HTTP/1\.1 \d{3} ", received)
    head, _, body = received[last.start() :].partition(b"\r\n\r\n")
    problem: Any = json.loads(body)
    head += b"\r\n"
    assert b"\r\ncontent-type: application/problem+json\r\n" in head
    assert b"\r\nconnection: close\r\n" in head
    assert b"\r\nx-content-type-options: nosniff\r\n" in head
    assert b"\r\ncache-control: no-store\r\n" in head
    assert b"\r\nx-request-id: " + problem["request_id"].encode() in head
    assert statuses(head) == [problem["status"]]
    return problem["status"], problem["type"].removeprefix("/problems/")


async def test_one_connection_too_many_is_told_to_come_again(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a problem, whatever it sends; there is room once another one has closed."""
    monkeypatch.setattr("service.api.connections.protocol._MAKES_WAY_S", PATIENT_S)
    async with serving(service, connections=2) as served:
        first, second = [await connect(served) for _ in range(2)]
        third, writer = await connect(served)
        writer.write(LIVEZ + b"x" * 100_000)

        head, _, body = (await third.read()).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 503 Service Unavailable")
        assert b"\r\nretry-after: 1\r\n" in head
        assert b"\r\nconnection: close" in head
        problem = json.loads(body)
        assert (problem["type"], problem["status"]) == ("/problems/overloaded", 503)
        first[1].close()
        await first[1].wait_closed()
        assert (await served.client.get("/livez")).status_code == 200
        second[1].close()
    counted = await numbers(service)
    assert counted[at("erc_rejections_total", reason="connections")] == 1
    assert counted[at("erc_problems_total", type="overloaded")] == 1


IDLE = pytest.mark.parametrize(
    "sent",
    [b"", LIVEZ[:10], LIVEZ, LIVEZ + LIVEZ[:10], request(b"GET", b"/livez", *UPGRADE)],
    ids=["nothing", "half a head", "answered", "half a second head", "upgrade"],
)


@IDLE
async def test_a_connection_that_waits_for_its_client_makes_way(
    service: "Service", clock: Clock, sent: bytes
) -> None:
    """Where there is no room; one on which a request is under way does not."""
    async with (
        serving(service, connections=2) as served,
        connected(served, post_with(b"Connection: close")[:-1]) as (busy, sends_on),
        connected(served, sent) as (idle, _),
    ):
        await clock.skip(1.5)

        assert (await served.client.get("/livez")).status_code == 200

        await ended(idle)
        sends_on.write(SAID[-1:])
        assert statuses(await busy.read()) == [201]


@IDLE
@pytest.mark.parametrize("more", [b"", b"\r\n"], ids=["silence", "blank lines"])
async def test_a_client_that_sends_no_request_is_cut_off(
    service: "Service", clock: Clock, sent: bytes, more: bytes
) -> None:
    """Whatever was answered before, and whatever comes that is no request."""
    async with serving(service, head_s=500) as served, connected(served, sent) as (reader, writer):
        for _ in range(6):
            writer.write(more)
            await clock.skip(100)

        await ended(reader)


async def test_a_body_may_take_longer_than_a_head(
    start_service: "StartService", tmp_path: Path, clock: Clock
) -> None:
    """Its time is that of the whole request."""
    admission = Admission(deadline_s=2000, utterances=8)
    async with (
        start_service(tmp_path, Limits(), admission=admission) as service,
        serving(service, head_s=500) as served,
        connected(served, post_with(b"Connection: close")[:-10]) as (reader, writer),
    ):
        await clock.skip(1000)
        writer.write(SAID[-10:])

        assert statuses(await reader.read()) == [201]


async def test_a_connection_is_kept_for_the_next_request(service: "Service") -> None:
    """Also when several are sent before the first is answered, in pieces of any length."""
    async with serving(service) as served:
        for length, padding in [(1, 1), (7, 1), *((100_000, n) for n in range(20, 130))]:
            lines = in_chunks(b"/batch", b"\n", b" " * padding, b"\n") + b"0\r\n\r\n"
            sent = b"\r\n" + LIVEZ + b"\r\n" + lines + LIVEZ + lines + post_with() + LAST
            async with connected(served) as (reader, writer):
                for start in range(0, len(sent), length):
                    writer.write(sent[start : start + length])
                    await asyncio.sleep(0)

                received = await reader.read()

            assert statuses(received) == [200, 200, 200, 200, 201, 200]
            assert received.count(b"connection: close") == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(b"GET", b"/livez", b"Content-Length: 5"), 200),
        (request(b"GET", b"/livez", b"Content-Length: 5", body=b"a"), 200),
        (request(b"GET", b"/livez", b"Content-Length: 5", b"Expect: 100-continue"), 200),
        (request(b"GET", b"/livez", b"Transfer-Encoding: chunked"), 200),
        (request(b"GET", b"/livez", b"Content-Length: %d" % (2**64 - 1)), 200),
        (request(b"POST", b"/nothing", b"Content-Length: 5"), 404),
        (request(b"PUT", b"/livez", b"Content-Length: 5"), 405),
        (request(b"POST", b"/batch", b"Content-Length: 5", b"Content-Type: text/csv"), 415),
        (in_chunks(b"/batch", b"a" * 3_000_000, media_type=b"application/json"), 413),
        (
            request(
                b"POST",
                b"/batch",
                b"Content-Length: 50000000",
                b"Content-Type: application/json",
                body=b"a" * 5_000_000,
            ),
            413,
        ),
    ],
)
async def test_an_answer_that_does_not_wait_for_the_body_is_the_last(
    service: "Service", sent: bytes, status: int
) -> None:
    """It says so, and can be read, though the client goes on sending."""
    async with serving(service) as served:
        received = await answered(served, sent)

    assert statuses(received) == [status]
    assert b"\r\nconnection: close\r\n" in received
    length = re.search(rb"content-length: (\d+)", received)
    assert length is not None
    assert len(received.partition(b"\r\n\r\n")[2]) == int(length[1])


async def test_what_comes_after_the_last_answer_is_thrown_away_for_a_while(
    service: "Service",
) -> None:
    """Then the connection is cut off, also where it never ends."""
    async with (
        serving(service) as served,
        connected(served, request(b"POST", b"/nothing", b"Content-Length: 999999999999")) as (
            _,
            client,
        ),
    ):
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send_for_ever(client, b"a" * 1_000_000), PATIENT_S)

        assert not served.server.server_state.connections


async def test_an_upgrade_is_a_request_like_any_other(service: "Service") -> None:
    """Nothing is switched to, and its body is a body, not another request."""
    inner = request(b"DELETE", b"/dialogues/call-42")
    upgrade = request(b"POST", b"/nothing", *UPGRADE, b"Content-Length: %d" % len(inner))
    h2c = (b"Connection: Upgrade, HTTP2-Settings", b"UPGRADE: h2c", b"HTTP2-Settings: AAMAAABk")
    async with serving(service) as served:
        received = await answered(served, upgrade + inner + post_with(*h2c) + LAST)

    assert statuses(received) == [404, 201, 200]


UNREADABLE = {
    "garbage": b"garbage\r\n\r\n",
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(range(128, 256)),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "other version": b"GET /livez HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "tunnel": b"CONNECT here:443 HTTP/1.1\r\nHost: localhost\r\n\r\n" + LIVEZ,
    "no path": request(b"GET", b"http://here"),
    "bytes in the path": request(b"GET", b"/\xff"),
    "line feeds alone": LIVEZ.replace(b"\r", b""),
    "negative length": request(b"POST", b"/batch", b"Content-Length: -1"),
    "length with a sign": request(b"POST", b"/batch", b"Content-Length: +5"),
    "length of many digits": request(b"POST", b"/batch", b"Content-Length: " + b"9" * 30),
    "two lengths": request(b"POST", b"/batch", b"Content-Length: 5", b"Content-Length: 6"),
    "length and chunks": request(
        b"POST", b"/batch", b"Content-Length: 5", b"Transfer-Encoding: chunked"
    ),
    "chunks and length": request(
        b"POST", b"/batch", b"Transfer-Encoding: chunked", b"Content-Length: 5"
    ),
    "other encoding": request(b"POST", b"/batch", b"Transfer-Encoding: identity"),
    "space before a colon": request(b"POST", b"/batch", b"Content-Length : 5"),
    "no chunk": in_chunks(b"/batch") + b"zz\r\n",
}


@pytest.mark.parametrize("sent", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_cannot_be_read_is_a_problem_and_the_end(
    service: "Service", caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """It is counted; whoever sends it a thousand times fills no log. What was asked is answered."""
    async with serving(service) as served:
        first = await answered(served, sent)
        second = await answered(served, post_with() + sent + LIVEZ)

    assert last_problem(first) == last_problem(second) == (400, "bad-request")
    assert statuses(second) == [201, 400]
    assert (await numbers(service))[at("erc_problems_total", type="bad-request")] == 2
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


TOO_LONG = {
    "tiny headers": request(b"GET", b"/livez", *[b"a:b"] * LONG),
    "a header": request(b"GET", b"/livez", b"A: " + b"a" * LONG),
    "a header without end": request(b"GET", b"/livez", b"A: " + b"a" * LONG)[:-4],
    "a path": request(b"GET", b"/" + b"a" * LONG),
    "a method": b"A" * LONG,
    "blank lines": b"\r\n" * LONG,
    "trailers": in_chunks(b"/batch", b"\n") + b"0\r\n" + b"a: b\r\n" * LONG,
    "a trailer": in_chunks(b"/batch", b"\n") + b"0\r\nA: " + b"a" * LONG,
    "a chunk's extension": in_chunks(b"/batch", b"\n") + b"1;a=" + b"a" * LONG,
    "chunks' extensions": in_chunks(b"/batch") + (b"1;a=" + b"a" * 100 + b"\r\n\n\r\n") * LONG,
}


@pytest.mark.parametrize("sent", TOO_LONG.values(), ids=TOO_LONG)
async def test_too_much_that_is_no_body_is_a_problem_and_the_end(
    service: "Service", sent: bytes
) -> None:
    """However it is divided, and wherever it comes."""
    async with serving(service) as served:
        first = await answered(served, sent)
        second = await answered(served, post_with() + sent)

    assert last_problem(first) == last_problem(second) == (431, "head-too-large")
    assert statuses(second) == [201, 431]
    assert (await numbers(service))[at("erc_problems_total", type="head-too-large")] == 2


@pytest.mark.parametrize("count", [99, 100, 300])
async def test_there_is_one_limit_of_headers_wherever_it_is_met(
    service: "Service", count: int
) -> None:
    """Those that the parser gives up at are refused as those that it passes on."""
    sent = request(b"GET", b"/livez", *[b"a: b"] * (count - 1), b"Connection: close")
    async with serving(service) as served:
        received = await answered(served, sent)

    if count == 99:
        assert statuses(received) == [200]
    else:
        assert last_problem(received) == (431, "head-too-large")


async def test_a_long_body_in_small_chunks_is_read_to_its_end(service: "Service") -> None:
    """What surrounds its chunks is more than may come without a body."""
    blanks = b"".join(b"1\r\n\n\r\n" for _ in range(3 * LONG))
    async with serving(service) as served:
        received = await answered(
            served, in_chunks(b"/batch", b"\n" * LONG) + blanks + b"0\r\n\r\n" + LAST
        )

    assert statuses(received) == [200, 200]


async def test_trailers_are_no_headers(service: "Service") -> None:
    """They come after what was decided by the headers."""
    sent = in_chunks(b"/nothing") + b"0\r\nX-Request-Id: trailer\r\n\r\n"
    async with serving(service) as served:
        received = await answered(served, sent + LAST)

    assert statuses(received) == [404, 200]
    assert b"trailer" not in received


async def test_a_client_that_reads_nothing_is_cut_off(service: "Service") -> None:
    """Though more lies ready for it than a connection holds."""
    async with serving(service, unread_s=1) as served:
        reader, writer = await connect(served)
        reader._transport.pause_reading()  # type: ignore[attr-defined]

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_for_ever(writer), PATIENT_S)

        assert not served.server.server_state.connections


async def test_a_client_that_reads_too_slowly_is_cut_off(service: "Service") -> None:
    """Something now and then, which the kernel is content with, is not enough."""
    async with serving(service, unread_s=1) as served:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.setblocking(False)
            await loop.sock_sendall(connection, request(b"GET", b"/openapi.json") * 200)
            with suppress(ConnectionError):
                for _ in range(300):
                    if not await loop.sock_recv(connection, 25_000):
                        return
                    await asyncio.sleep(0.1)
                pytest.fail("it was served for ever")


async def ask_for_ever(writer: asyncio.StreamWriter) -> None:
    await send_for_ever(writer, request(b"GET", b"/openapi.json") * 20, pause_s=0.1)


async def send_for_ever(writer: asyncio.StreamWriter, sent: bytes, pause_s: float = 0) -> None:
    while True:
        writer.write(sent)
        await asyncio.sleep(pause_s)
        await writer.drain()


async def ended(reader: asyncio.StreamReader) -> None:
    """The service closes the connection, which it may also reset."""
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), PATIENT_S)
