"""Queries and headers that are more than any request needs."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.types import Message, Scope

if TYPE_CHECKING:
    from tests.api.conftest import Service


QUERY = (400, "/problems/bad-request")
HEADERS = (431, "/problems/head-too-large")


async def asked(
    service: "Service", path: str, query: bytes, headers: list[tuple[bytes, bytes]]
) -> tuple[int, bytes]:
    """Status and body of an answer, without a client that looks through the headers too."""
    sent: list[Message] = []
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        for message in received:
            return message
        await asyncio.Event().wait()  # it stays until it is answered
        raise AssertionError("it never leaves")

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": headers,
        "state": dict(service.state),
    }
    await service.app(scope, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent)


@pytest.mark.parametrize("path", ["/dialogues/a", "/demonstrations", "/livez", "/nothing"])
@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        (b"after=1&" * 8000, [], QUERY),
        (b"&".join(b"%x=1" % n for n in range(9000)), [], QUERY),
        (b"after=" + b"1" * 9000, [], QUERY),
        (b"", [(b"a", b"b")] * 12_000, HEADERS),
        (b"", [(b"a", b"b")] * 101, HEADERS),
        (b"", [(b"a" * 8193, b"b")], HEADERS),
        (b"", [(b"accept", b"a/b," * 3000)], HEADERS),
        (b"", [(b"x", b""), (b"if-none-match", b'"' + b"x" * 9000 + b'"')], HEADERS),
    ],
    ids=[
        "one parameter",
        "many parameters",
        "value",
        "headers",
        "one header",
        "name",
        "list",
        "header",
    ],
)
async def test_more_than_any_request_needs_is_refused_before_it_is_looked_through(
    service: "Service",
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    expected: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On every path, also where none is; headers by the status that is theirs."""

    def parse(*_: Any, **__: Any) -> Any:
        raise AssertionError("looked through")

    monkeypatch.setattr("starlette.datastructures.parse_qsl", parse)

    status, body = await asked(service, path, query, headers)

    assert (status, json.loads(body)["type"]) == expected


async def test_what_requests_need_is_let_through(service: "Service") -> None:
    """Proxies add some headers, and cookies of others are long."""
    headers = [(b"x-%d" % n, b"1") for n in range(99)] + [(b"cookie", b"c" * 8192)]

    assert (await asked(service, "/label-spaces", b"&" * 31, headers))[0] == 200
    assert (await asked(service, "/label-spaces", b"", []))[0] == 200
