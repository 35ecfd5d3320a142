"""Connections, opened by clients that know no manners."""

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.api.serving import Served, serving
from tests.api.test_operation_routes import at, numbers

if TYPE_CHECKING:
    from tests.api.conftest import Service

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"


async def connect(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", served.port)


async def test_one_connection_too_many_is_told_to_come_again(service: "Service") -> None:
    """With a problem, whatever it sends; there is room once another one has closed."""
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
    assert (await numbers(service))[at("erc_rejections_total", reason="connections")] == 1


async def test_a_client_that_sends_no_head_is_cut_off(service: "Service") -> None:
    """Neither nothing at all, nor a part of a head, nor a part of a second one holds a place."""
    async with serving(service, head_s=0.3) as served:
        for sent in (b"", LIVEZ[:10], LIVEZ + LIVEZ[:10]):
            reader, writer = await connect(served)
            writer.write(sent)

            received = await asyncio.wait_for(reader.read(), 5)

            assert received.startswith(b"HTTP/1.1 200") == (len(sent) > len(LIVEZ))


async def test_a_body_may_take_longer_than_a_head(service: "Service") -> None:
    """Its time is that of the whole request."""
    body = json.dumps({"speaker": "Ann", "text": "We won!"}).encode()
    async with serving(service, head_s=0.3) as served:
        reader, writer = await connect(served)
        writer.write(
            b"POST /dialogues/call-42/utterances HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        writer.write(body[:10])
        await asyncio.sleep(0.6)
        writer.write(body[10:])

        assert (await reader.read()).startswith(b"HTTP/1.1 201")


async def test_a_client_that_reads_nothing_is_cut_off(service: "Service") -> None:
    """Though more lies ready for it than a connection holds."""
    async with serving(service, unread_s=1) as served:
        reader, writer = await connect(served)
        reader._transport.pause_reading()  # type: ignore[attr-defined]

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_for_ever(writer), 30)

        assert not served.server.server_state.connections


async def ask_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n" * 20)
        await asyncio.sleep(0.1)
        await writer.drain()
