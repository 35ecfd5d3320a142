"""The load client against a server of a few lines."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from tests.bench.client import BROKEN, Client, request

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


POST = request("POST", "/things", b'{"a": 1}')


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[Client]:
    """A client of a server that talks like this on each connection."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server, Client("127.0.0.1", server.sockets[0].getsockname()[1]) as client:
        yield client


async def heard(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def test_an_answer_comes_with_its_status_headers_and_body() -> None:
    """Header names are read without regard to case."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nServer-Timing: a;dur=1\r\n\r\n")
        writer.write(b"hello")

    async with talking(talk) as client:
        answer = await client.send(POST)

    assert (answer.status, answer.ok, answer.body) == (201, True, b"hello")
    assert answer.header("server-timing") == "a;dur=1"
    assert answer.header("x-other") is None


def test_uvloop_will_do() -> None:
    """The rows run on it; its transports are not asyncio's."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    async def exchange() -> bytes:
        async with talking(talk) as client:
            return (await client.send(POST)).body

    assert uvloop.run(exchange()) == b"ok"


async def test_the_server_hears_the_whole_request() -> None:
    """Method, path, length and body."""
    requests = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await heard(reader))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with talking(talk) as client:
        await client.send(POST)

    head, body = requests[0]
    assert head.startswith(b"POST /things HTTP/1.1\r\n")
    assert body == b'{"a": 1}'


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_an_answer_may_come_in_pieces(piece: int) -> None:
    """Whatever the network does to it."""
    whole = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nnobody knows"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        for start in range(0, len(whole), piece):
            writer.write(whole[start : start + piece])
            await writer.drain()
            await asyncio.sleep(0)

    async with talking(talk) as client:
        answer = await client.send(POST)

    assert answer.body == b"nobody knows"


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """As long as nothing is under way on it."""
    connections = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(reader)
        for _ in range(3):
            await heard(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with talking(talk) as client:
        for _ in range(3):
            assert (await client.send(POST)).ok

    assert len(connections) == 1


async def test_requests_at_once_have_a_connection_each() -> None:
    """The first answer leaves when the second request has arrived."""
    arrived = asyncio.Barrier(2)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await heard(reader)
        await arrived.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with talking(talk) as client:
        answers = await asyncio.gather(client.send(POST), client.send(POST))

    assert all(answer.ok for answer in answers)


async def test_a_connection_that_breaks_is_no_answer() -> None:
    """And the next request has a new one."""
    connections = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(reader)
        await heard(reader)
        if len(connections) > 1:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")

    async with talking(talk) as client:
        assert await client.send(POST) is BROKEN
        assert (await client.send(POST)).ok


async def test_a_server_that_says_close_is_not_asked_again_on_that_connection() -> None:
    """It would not hear."""
    connections = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(reader)
        await heard(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        await reader.read()  # until the client has closed

    async with talking(talk) as client:
        for _ in range(2):
            assert (await client.send(POST)).ok

    assert len(connections) == 2


async def test_a_server_that_is_not_there_is_no_answer() -> None:
    """A refused connection counts like a broken one."""
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()

    async with Client("127.0.0.1", port) as client:
        assert not (await client.send(POST)).ok
