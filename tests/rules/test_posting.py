"""Attempts to deliver webhooks, on real connections."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from service.rules.posting import Attempt, Poster
from service.rules.rule_files import Endpoint
from tests.clock import Clock
from tests.rules.receiver import KEY, Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


class Names:
    """Resolves every name to addresses that change from one lookup to the next."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        address = self.addresses.pop(0)
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)


async def test_a_webhook_arrives_signed(receiver: Receiver) -> None:
    attempt = await Poster().post(receiver.endpoint(), "msg_1", b'{"n": 1}')

    assert attempt == Attempt(204, None)
    assert receiver.received == [("msg_1", {"n": 1})]


@pytest.mark.parametrize("status", [301, 307, 400, 410, 500])
async def test_another_status_is_a_failure(receiver: Receiver, status: int) -> None:
    """Nor is a redirect followed."""
    receiver.answer = lambda _: web.Response(status=status, headers={"Location": "/elsewhere"})

    attempt = await Poster().post(receiver.endpoint(), "msg_1", b"{}")

    assert attempt == Attempt(status, f"status {status}")
    assert len(receiver.received) == 1


@pytest.mark.parametrize(("value", "seconds"), [("120", 120.0), ("soon", None), ("1" * 40, None)])
async def test_an_endpoint_can_ask_for_a_pause(
    receiver: Receiver, value: str, seconds: float | None
) -> None:
    receiver.answer = lambda _: web.Response(status=429, headers={"Retry-After": value})

    attempt = await Poster().post(receiver.endpoint(), "msg_1", b"{}")

    assert attempt == Attempt(429, "status 429", seconds)


async def test_a_body_without_end_is_not_read(receiver: Receiver) -> None:
    class Endless(web.StreamResponse):
        async def prepare(self, request: Any) -> Any:
            writer = await super().prepare(request)
            while True:
                await self.write(b"x" * 65536)
            return writer

    receiver.answer = lambda _: Endless(status=200)

    assert await Poster().post(receiver.endpoint(), "msg_1", b"{}") == Attempt(200, None)


async def test_an_endpoint_that_does_not_answer_costs_a_bounded_time(clock: Clock) -> None:
    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    arrived = asyncio.Event()
    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    endpoint = Endpoint("crm", f"http://127.0.0.1:{port}/", KEY, allow_private=True)
    posting = asyncio.create_task(Poster(attempt_s=600).post(endpoint, "msg_1", b"{}"))
    await arrived.wait()

    await clock.skip(601)

    attempt = await posting
    assert attempt.status is None
    assert attempt.failure is not None
    server.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "0x7f000001", "0x7f.1"]
)
async def test_this_machine_is_not_reached_unless_the_endpoint_allows_it(
    receiver: Receiver, host: str
) -> None:
    """However its address is written."""
    attempt = await Poster().post(receiver.endpoint(host=host, allow_private=False), "msg_1", b"{}")

    assert attempt.status is None
    assert "is no public address" in (attempt.failure or "")
    assert receiver.received == []


@pytest.mark.parametrize("host", ["2130706433", "127.1"])
async def test_numbers_are_no_hosts(receiver: Receiver, host: str) -> None:
    attempt = await Poster().post(receiver.endpoint(host=host, allow_private=False), "msg_1", b"{}")

    assert attempt.status is None
    assert attempt.failure
    assert receiver.received == []


async def test_a_name_is_checked_as_it_resolves_when_the_connection_is_made(
    receiver: Receiver,
) -> None:
    """An address that was public the time before counts for nothing."""
    names = Names("127.0.0.1", "169.254.169.254", "127.0.0.1")
    poster = Poster(names)
    allowed = receiver.endpoint(host="crm.example.org")
    refused = receiver.endpoint(host="crm.example.org", allow_private=False)

    assert await poster.post(allowed, "msg_1", b"{}") == Attempt(204, None)
    assert "link-local" in ((await poster.post(allowed, "msg_2", b"{}")).failure or "")
    assert "no public address" in ((await poster.post(refused, "msg_3", b"{}")).failure or "")
    assert names.addresses == []
    assert [name for name, _ in receiver.received] == ["msg_1"]


async def test_a_failure_does_not_show_the_url(receiver: Receiver) -> None:
    """Its path may be a secret."""
    await asyncio.sleep(0)
    closed = Endpoint("crm", "http://127.0.0.1:9/hidden", KEY, allow_private=True)

    attempt = await Poster().post(closed, "msg_1", b"{}")

    assert attempt.status is None
    assert attempt.failure
    assert "hidden" not in attempt.failure
    assert "hidden" not in repr(closed)
