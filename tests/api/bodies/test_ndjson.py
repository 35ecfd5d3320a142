"""Lines that are ready are sent as fast as their client reads them."""

import asyncio

import pytest
from starlette.types import Message, Scope

from service.admission.deadline import RequestDeadline
from service.api.bodies.ndjson import Emit, LineStream, emit_in_pieces
from service.errors import DeadlinePassed

CONTENT = b"{}\n" * 200_000
BYTES_PER_S = 1_000_000
DEADLINE_S = 0.3
SCOPE: Scope = {"type": "http", "method": "GET", "headers": [], "state": {}}


async def read(*, in_pieces: bool) -> bytes:
    """What a client that reads slowly has read by the end, or by the deadline."""

    async def produce(emit: Emit) -> None:
        await (emit_in_pieces(emit, CONTENT) if in_pieces else emit(CONTENT))

    async def receive() -> Message:
        raise AssertionError

    bodies: list[bytes] = []

    async def send(message: Message) -> None:
        body = message.get("body", b"")
        await asyncio.sleep(len(body) / BYTES_PER_S)
        bodies.append(body)

    async with RequestDeadline(DEADLINE_S):
        await LineStream(produce)(SCOPE, receive, send)
    return b"".join(bodies)


async def test_a_client_has_the_deadline_for_a_piece_and_not_for_all_lines() -> None:
    assert await read(in_pieces=True) == CONTENT
    with pytest.raises(DeadlinePassed):
        await read(in_pieces=False)
