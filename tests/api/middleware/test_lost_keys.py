"""A key that is taken away while it is being answered."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access, KnownCallers
from service.api.routers import events
from service.settings import Limits
from tests.api.numbers import at, numbers
from tests.api.routers.test_events import take
from tests.api.serving import Served, serving
from tests.clock import PATIENT_S

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

KEY, OTHER = new_key(), new_key()
SAID = {"speaker": "Ann", "text": "We won!"}
EVENTS = "/dialogues/call-42/events"
NDJSON = {"Content-Type": "application/x-ndjson"}

HELD = {"id": "one", "tenant": "acme", "scopes": ["read", "write"], "sha256": digest(KEY).hex()}
ADMIN = {"id": "two", "tenant": "acme", "scopes": ["admin"], "sha256": digest(OTHER).hex()}
# What becomes of the entry of the key.
LOSSES: dict[str, list[dict[str, Any]]] = {
    "removed": [ADMIN],
    "replaced": [HELD | {"sha256": digest(new_key()).hex()}, ADMIN],
    "expired": [HELD | {"not_after": datetime.now(UTC).isoformat()}, ADMIN],
    "another tenant's": [HELD | {"tenant": "other"}, ADMIN],
    "without the scope": [HELD | {"scopes": ["write"]}, ADMIN],
}


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [HELD, ADMIN]}))
    return Keyring(tmp_path / "keys.json")


@pytest.fixture
async def service(
    start_service: "StartService", tmp_path: Path, keyring: Keyring
) -> AsyncIterator["Service"]:
    async with start_service(tmp_path, Limits(), access=Access(keyring)) as service:
        service.client.headers["Authorization"] = f"Bearer {OTHER}"
        yield service


async def rewrite(folder: Path, keyring: Keyring, keys: list[dict[str, Any]]) -> None:
    """Change the file of keys, and have it taken up."""
    unfinished = folder / "keys.new"
    unfinished.write_text(json.dumps({"keys": keys}))
    unfinished.replace(folder / "keys.json")
    await keyring.look()


def open_client(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=str(served.client.base_url),
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=PATIENT_S,
    )


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_stream_ends_before_the_next_event(
    service: "Service", tmp_path: Path, keyring: Keyring, loss: str
) -> None:
    """Nothing of what is said afterwards is sent; coming back is refused."""
    await service.say("call-42", "Ann", "before")
    async with (
        serving(service) as served,
        open_client(served) as client,
        asyncio.timeout(PATIENT_S),
    ):
        async with client.stream("GET", EVENTS) as answer:
            lines = answer.aiter_lines()
            await take(lines, 1)
            await rewrite(tmp_path, keyring, LOSSES[loss])
            await service.say("call-42", "Ann", "after")
            rest = [line async for line in lines]
        again = await client.get(EVENTS)

    assert not [line for line in rest if line]
    assert again.status_code in (401, 403, 404)
    count = at("erc_rejections_total", reason="key")
    assert (await numbers(service))[count] == 1 + (again.status_code == 401)


async def test_a_quiet_stream_ends_with_the_next_sign_of_life(
    service: "Service", tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So within a heartbeat, which is then not sent."""
    assert events.HEARTBEAT_S <= 15
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    await service.say("call-42", "Ann", "before")
    async with (
        serving(service) as served,
        open_client(served) as client,
        client.stream("GET", EVENTS) as answer,
        asyncio.timeout(PATIENT_S),
    ):
        lines = answer.aiter_lines()
        await take(lines, 3)
        await rewrite(tmp_path, keyring, [ADMIN])
        rest = [line async for line in lines if line]

    assert set(rest) <= {": still here"}


@pytest.mark.parametrize(
    "keys",
    [[HELD], [HELD | {"quota": {"requests_per_s": 5}}, ADMIN]],
    ids=["another key is removed", "its quota changes"],
)
async def test_a_stream_goes_on_while_its_key_stays_good(
    service: "Service", tmp_path: Path, keyring: Keyring, keys: list[dict[str, Any]]
) -> None:
    """Whatever else changes in the file."""
    await service.say("call-42", "Ann", "before")
    async with (
        serving(service) as served,
        open_client(served) as client,
        client.stream("GET", EVENTS) as answer,
        asyncio.timeout(PATIENT_S),
    ):
        lines = answer.aiter_lines()
        await take(lines, 1)
        await rewrite(tmp_path, keyring, keys)
        response = await client.post(
            "/dialogues/call-42/utterances", json={"speaker": "Ann", "text": "after"}
        )
        (event,) = await take(lines, 1)

    assert response.status_code == 201
    assert event.data["text"] == "after"


async def test_a_bug_in_an_answer_that_is_broken_off_is_not_lost(
    tmp_path: Path, keyring: Keyring
) -> None:
    """Only what the lost key itself brings about ends with one line in the log."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": EVENTS,
        "headers": [(b"authorization", f"Bearer {KEY}".encode())],
        "state": {"request_id": "r1"},
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    def answering(fault: Callable[[Exception], Exception]) -> KnownCallers:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await rewrite(tmp_path, keyring, [HELD, ADMIN])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await rewrite(tmp_path, keyring, [ADMIN])
            try:
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            except Exception as lost:
                raise fault(lost)  # noqa: B904

        return KnownCallers(app, Access(keyring), lambda _: None)

    def passed_on(lost: Exception) -> Exception:
        error = RuntimeError("the answer has begun")
        error.__cause__ = ExceptionGroup("", [lost])
        return error

    for bug in (
        lambda _: TypeError("a bug"),
        lambda lost: ExceptionGroup("", [lost, TypeError("a bug")]),
    ):
        with pytest.raises((TypeError, ExceptionGroup)):
            await answering(bug)(dict(scope), receive, send)
        await rewrite(tmp_path, keyring, [HELD, ADMIN])
    for same in (lambda lost: lost, passed_on):
        await answering(same)(dict(scope), receive, send)
        await rewrite(tmp_path, keyring, [HELD, ADMIN])


def dialogue(name: str) -> bytes:
    return json.dumps({"id": name, "utterances": [SAID]}).encode() + b"\n"


def in_chunks(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


async def test_lines_that_come_later_are_not_answered(
    service: "Service", tmp_path: Path, keyring: Keyring
) -> None:
    """The answer is broken off rather than ended, so that nobody takes it for a whole one."""
    head = (
        "POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        f"Authorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    async with serving(service) as served, asyncio.timeout(PATIENT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head.encode() + in_chunks(dialogue("before")))
        await reader.readuntil(b'"id":"before"')
        await rewrite(tmp_path, keyring, [ADMIN])
        writer.write(in_chunks(dialogue("after"), b""))
        rest = await reader.read()
        writer.close()

    assert b"after" not in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert (await numbers(service))[at("erc_rejections_total", reason="key")] == 1


async def test_the_rest_of_a_job_s_results_is_not_sent(
    service: "Service", tmp_path: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part of them is looked at."""
    jobs = service.services.jobs
    parts = iter([(0, '{"line":1}\n'), (1, '{"line":2}\n'), None])

    async def results(job_id: str, after: int) -> tuple[int, str] | None:
        part = next(parts)
        if part is not None and part[0] == 1:
            await rewrite(tmp_path, keyring, [ADMIN])
        return part

    received = b""

    async def read(client: httpx.AsyncClient, path: str) -> None:
        nonlocal received
        async with client.stream("GET", path) as answer:
            async for chunk in answer.aiter_bytes():
                received += chunk

    async with serving(service) as served, open_client(served) as client:
        later = NDJSON | {"Prefer": "respond-async"}
        made = await client.post("/batch", content=dialogue("a"), headers=later)
        monkeypatch.setattr(type(jobs), "results", staticmethod(results))
        with pytest.raises(httpx.RemoteProtocolError):
            await read(client, f"{made.headers['location']}/results")

    assert received == b'{"line":1}\n'


async def test_a_job_is_not_made_of_lines_that_come_later(
    service: "Service", tmp_path: Path, keyring: Keyring, problem: Any
) -> None:
    """What arrives is looked at too, before anything is answered."""

    async def body() -> AsyncIterator[bytes]:
        yield dialogue("before")
        await asyncio.sleep(0.1)
        await rewrite(tmp_path, keyring, [ADMIN])
        yield dialogue("after")

    async with serving(service) as served, open_client(served) as client:
        headers = NDJSON | {"Prefer": "respond-async"}
        refused = await client.post("/batch", content=body(), headers=headers)

    assert problem(refused) == (401, "unauthenticated")
    assert sum((await service.services.jobs.counts()).values()) == 0
    assert (await numbers(service))[at("erc_rejections_total", reason="key")] == 1
