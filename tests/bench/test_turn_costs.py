"""What is measured of a turn, without its processes."""

import asyncio

from tests.bench.processes import HOST
from tests.bench.turn_costs import relayed


async def test_a_relay_passes_everything_on_and_counts_it() -> None:
    """Both ways, over several connections at once."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readexactly(100_000)
        writer.write(question[:30_000])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server, relayed(server.sockets[0].getsockname()[1]) as (relay, port):

        async def ask(letter: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(100_000 * letter)
            await writer.drain()
            answered = await reader.read(-1)
            writer.close()
            return answered

        answers = await asyncio.gather(ask(b"a"), ask(b"b"))

    assert [*answers] == [30_000 * b"a", 30_000 * b"b"]
    assert (relay.sent, relay.received) == (200_000, 60_000)
