"""HEAD, which asks for what GET would be answered, without its body."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from service.access.addresses import Hosts
from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access
from service.settings import Limits
from tests.api.middleware.test_hosts import status_of
from tests.api.serving import serving

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

PARAMETERS = {
    "dialogue_id": "call-42",
    "demonstration_id": "team",
    "name": "swagger-ui.css",
    "index": "0",
}
# What differs between two answers to GET, too.
OF_ITS_OWN = {"x-request-id", "server-timing", "date"}
GROWING = {"/livez", "/metrics"}


def paths(service: "Service", job_id: str) -> list[str]:
    """One path for each route that takes GET."""
    routes = [route for route in service.app.routes if isinstance(route, Route)]
    readable = {route.path for route in routes if "GET" in (route.methods or ())}
    given = PARAMETERS | {"job_id": job_id}
    special = {
        "/problems/{name}": "/problems/overloaded",
        "/label-spaces/{name}": "/label-spaces/sentiment",
    }
    queries = {"/dialogues/{dialogue_id}/forecast": "?speaker=Ann&label_space=meld"}
    return sorted(
        special.get(path, path.format(**given)) + queries.get(path, "") for path in readable
    )


def head_of(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in OF_ITS_OWN}


@pytest.fixture
async def full(service: "Service") -> "Service":
    """A service that has one of everything that is read."""
    await service.say("call-42", "Ann", "We won!", label_space="meld")
    await service.add_demonstration(id="team", label_space="meld", label="joy", text="We won!")
    return service


async def begin_job(service: "Service") -> str:
    dialogue = {"id": "a", "utterances": [{"speaker": "Ann", "text": "We won!"}]}
    answer = await service.client.post(
        "/batch", json={"dialogues": [dialogue]}, headers={"Prefer": "respond-async"}
    )
    job_id: str = answer.json()["id"]
    return job_id


async def test_head_has_the_head_of_get_on_every_route(full: "Service") -> None:
    """Status and headers, the body's length among them, and no body."""
    job_id = await begin_job(full)
    await full.work()
    urls = paths(full, job_id)
    assert len(urls) >= 15

    for path in urls:
        head = await full.client.head(path)
        assert head.content == b"", path
        if path.endswith("/events"):
            continue
        got = await full.client.get(path)
        expected = head_of(got)
        if path in GROWING:
            assert int(head.headers["content-length"]) > 0
            expected["content-length"] = head.headers["content-length"]
        assert (head.status_code, head_of(head)) == (200, expected), path


@pytest.mark.parametrize(
    ("path", "status"),
    [("/dialogues/nobody", 404), ("/nothing", 404), ("/batch", 405), ("/dialogues/%00", 422)],
)
async def test_a_refusal_has_the_head_that_get_is_refused_with(
    service: "Service", path: str, status: int
) -> None:
    """Its length too; the problem is read with GET."""
    head, got = await service.client.head(path), await service.client.get(path)

    assert head.status_code == got.status_code == status
    assert head_of(head) == head_of(got)
    assert head.content == b""


async def test_what_is_still_the_same_is_said_to_be(full: "Service") -> None:
    """Conditions hold for HEAD as for GET."""
    tag = (await full.client.head("/dialogues/call-42")).headers["etag"]

    again = await full.client.head("/dialogues/call-42", headers={"If-None-Match": tag})

    assert again.status_code == 304


async def test_no_stream_is_begun_for_head(full: "Service") -> None:
    """It is answered at once with what a stream's head is, and takes no stream's place."""
    opened = list[Any]()
    full.door.streams.open = opened.append  # type: ignore[method-assign, assignment]

    head = await full.client.head("/dialogues/call-42/events")
    later = await full.client.head("/dialogues/call-42/events", headers={"Last-Event-ID": "5f3a.0"})
    missing = await full.client.head("/dialogues/nobody/events")
    refused = await full.client.head("/dialogues/call-42/events", headers={"Accept": "text/html"})

    assert head.status_code == later.status_code == 200
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert head.headers["x-accel-buffering"] == "no"
    assert "content-length" not in head.headers
    assert (missing.status_code, refused.status_code) == (404, 406)
    assert not opened


async def test_no_line_is_made_for_head(full: "Service", monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's results may be many."""
    job_id = await begin_job(full)
    await full.work()

    async def never(*_: Any) -> None:
        pytest.fail("results were read")

    monkeypatch.setattr(type(full.services.jobs), "results", never)

    head = await full.client.head(f"/jobs/{job_id}/results")

    assert head.status_code == 200
    assert head.headers["content-type"] == "application/x-ndjson"


async def test_a_connection_goes_on_after_head(full: "Service") -> None:
    """No byte of a body is sent, which would be taken for the next answer."""
    async with serving(full) as served:
        for path in ("/dialogues/call-42", "/dialogues/call-42/events", "/nothing", "/batch"):
            head = await served.client.head(path)
            following = await served.client.get("/label-spaces")

            assert head.content == b""
            assert following.status_code == 200
        assert await status_of(served.port, "HEAD /livez HTTP/1.1", "Host: localhost") == 200


@pytest.mark.parametrize(("method", "has_body"), [("HEAD", False), ("GET", True)])
@pytest.mark.parametrize(
    ("lines", "status"),
    [(["no header"], 400), (["Content-Length: x"], 400), ([f"A: {'a' * 7000}"] * 20, 431)],
    ids=["header", "length", "size"],
)
async def test_a_refusal_of_what_cannot_be_read_has_no_body_either(
    full: "Service", lines: list[str], status: int, method: str, *, has_body: bool
) -> None:
    """A connection answers that itself."""
    async with serving(full) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write("\r\n".join([f"{method} / HTTP/1.1", *lines, "", ""]).encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()

    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert bool(body) is has_body
    assert b"content-length: 0" not in head.lower()


async def test_head_takes_the_key_that_get_takes(
    start_service: "StartService", tmp_path: Path
) -> None:
    """No more and no less."""
    file, key = tmp_path / "keys.json", new_key()
    entry = {"id": "one", "tenant": "acme", "scopes": ["read"], "sha256": digest(key).hex()}
    file.write_text(json.dumps({"keys": [entry]}))
    access = Access(Keyring(file), hosts=Hosts(anything=True))

    async with start_service(tmp_path, Limits(), access=access) as service:
        named = {"Authorization": f"Bearer {key}"}
        answers = [
            (await service.client.head(path, headers=headers)).status_code
            for path in ("/label-spaces", "/metrics")
            for headers in ({}, named)
        ]

    assert answers == [401, 200, 401, 403]


async def test_requests_for_the_head_are_counted_by_their_route(full: "Service") -> None:
    """As HEAD."""
    await full.client.head("/dialogues/call-42")

    counted = (await full.client.get("/metrics")).text
    labels = 'method="HEAD",route="/dialogues/{dialogue_id}",status="200"'
    assert f"erc_requests_total{{{labels}}} 1.0" in counted


def test_routes_need_not_say_that_they_take_head(service: "Service") -> None:
    """The document has one call for both."""
    routes = [route for route in service.app.routes if isinstance(route, APIRoute)]

    assert routes
    assert not any("HEAD" in route.methods for route in routes)
    assert not any("head" in methods for methods in service.app.openapi()["paths"].values())
