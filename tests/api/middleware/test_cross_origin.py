"""What pages of other origins may ask and read."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.access.addresses import Hosts, allowed_hosts
from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access
from service.api.response_headers import HEADERS
from service.settings import Limits
from tests.api.serving import serving

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

ORIGIN, OTHER = "https://app.example.org", "https://evil.com"
PATH = "/dialogues/call-42/utterances"
SAID = {"speaker": "Ann", "text": "We won!"}
FOREIGN = [
    *(OTHER, "null", "", "https://app.example.org.evil.com", "https://app.example.org:8443"),
    *("http://app.example.org", "https://APP.example.org", "https://app.example.org/", "*"),
    *(f"{ORIGIN}, {OTHER}", f"{ORIGIN}@evil.com", "https://a.app.example.org"),
]


@pytest.fixture
async def service(start_service: "StartService", tmp_path: Path) -> AsyncIterator["Service"]:
    """One with a key that has a small quota."""
    file, key = tmp_path / "keys.toml", new_key()
    file.write_text(
        f'[[keys]]\nid = "one"\ntenant = "acme"\nscopes = ["read", "write"]\n'
        f'sha256 = "{digest(key).hex()}"\n[keys.quota]\nrequests_per_s = 0.001\nburst = 20\n'
    )
    access = Access(Keyring(file), hosts=Hosts(anything=True), origins=frozenset({ORIGIN}))
    async with start_service(tmp_path, Limits(body_bytes=1000), access=access) as service:
        service.client.headers.update({"Authorization": f"Bearer {key}", "Origin": ORIGIN})
        yield service


def may_read(answer: httpx.Response, origin: str = ORIGIN) -> bool:
    """Whether a browser lets a page read it."""
    return answer.headers.get_list("access-control-allow-origin") == [origin]


def words(answer: httpx.Response, name: str) -> set[str]:
    return {each.strip().lower() for each in answer.headers.get(name, "").split(",")}


async def preflight(
    client: httpx.AsyncClient, origin: str, method: str, *headers: str, path: str = PATH
) -> httpx.Response:
    """What browsers ask first: without a key."""
    preflight_headers = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        preflight_headers["Access-Control-Request-Headers"] = ",".join(headers).lower()
    request = client.build_request("OPTIONS", path, headers=preflight_headers)
    request.headers.pop("Authorization", None)
    return await client.send(request)


async def test_a_page_that_is_named_may_ask_for_everything(service: "Service") -> None:
    """With each method there is, and all that requests say."""
    calls = service.app.openapi()["paths"].items()
    documented = {
        parameter["name"]
        for _, methods in calls
        for call in methods.values()
        for parameter in call.get("parameters", ())
        if parameter["in"] == "header"
    }
    allowed = {*documented, "Authorization", "Content-Type", "Content-Encoding", "traceparent"}
    allowed |= {"If-None-Match", "X-Request-Id", "Last-Event-ID", "Accept"}
    for method in {method.upper() for _, methods in calls for method in methods} | {"HEAD"}:
        answer = await preflight(service.client, ORIGIN, method, *allowed)

        assert (answer.status_code, may_read(answer)) == (200, True), answer.text
        assert method.lower() in words(answer, "access-control-allow-methods")
        assert {each.lower() for each in allowed} <= words(answer, "access-control-allow-headers")
        assert "origin" in words(answer, "vary")
        assert "access-control-allow-credentials" not in answer.headers


async def test_what_nobody_takes_is_refused_in_the_preflight(
    service: "Service", problem: Any
) -> None:
    """With what is taken, which the page's author reads."""
    for request in (("BREW",), ("GET", "X-Forwarded-Host")):
        answer = await preflight(service.client, ORIGIN, *request)

        assert problem(answer) == (400, "bad-request")
        assert "Idempotency-Key" in answer.json()["detail"]


@pytest.mark.parametrize("names", ["", ",", "authorization,, content-type,"])
async def test_a_preflight_may_have_empty_elements(service: "Service", names: str) -> None:
    """Some browsers name no headers so."""
    headers = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": names}
    answer = await service.client.options(PATH, headers=headers)

    assert (answer.status_code, may_read(answer)) == (200, True), answer.text


@pytest.mark.parametrize("origin", FOREIGN)
async def test_other_pages_are_told_nothing(service: "Service", origin: str) -> None:
    """Neither in a preflight nor in an answer; caches keep the two apart."""
    answers = [
        await preflight(service.client, origin, "POST"),
        await service.client.get("/label-spaces", headers={"Origin": origin}),
    ]

    assert [answer.status_code for answer in answers] == [401, 200]
    for answer in answers:
        assert not any(name.startswith("access-control-") for name in answer.headers)
        assert "origin" in words(answer, "vary")


async def test_an_answer_may_be_read_with_its_headers(service: "Service") -> None:
    """All that are documented, and those that 405 says."""
    response = await service.client.post(PATH, json=SAID)

    assert response.status_code == 201
    assert may_read(response)
    exposed = words(response, "access-control-expose-headers")
    assert {"allow", "etag", "link", "location", "retry-after", "x-request-id"} <= exposed
    assert {name.lower() for name in HEADERS} <= exposed
    assert "access-control-allow-credentials" not in response.headers


async def test_whatever_is_refused_may_be_read(service: "Service", problem: Any) -> None:
    """Whichever layer refuses; a page could say nothing but that something failed."""
    ask = service.client

    async def refused(method: str, path: str, **more: Any) -> tuple[int, str]:
        answer = await ask.request(method, path, **more)
        assert may_read(answer), answer.text
        refusal: tuple[int, str] = problem(answer)
        return refusal

    assert await refused("GET", "/nothing") == (404, "no-such-path")
    assert (await refused("PUT", "/batch"))[0] == 405
    assert (await refused("POST", PATH, json={}))[0] == 422
    assert (await refused("POST", PATH, json={"text": 2000 * "a"}))[0] == 413
    assert (await refused("GET", "/label-spaces?" + 40 * "a&"))[0] == 400
    assert (await refused("GET", "/", headers={"X": 9000 * "a"}))[0] == 431
    assert (await refused("GET", "/label-spaces", headers={"Authorization": "no"}))[0] == 401
    assert (await refused("GET", "/metrics"))[0] == 403
    service.engine.goes_away()
    assert (await refused("POST", PATH, json=SAID))[0] == 503
    service.engine.failure = RuntimeError("nobody foresaw this")
    assert (await refused("POST", PATH, json=SAID))[0] == 500
    service.door.draining = True
    assert await refused("POST", PATH, json=SAID) == (503, "shutting-down")
    for _ in range(20):
        await ask.get("/label-spaces")
    assert await refused("POST", PATH, json=SAID) == (429, "quota-exceeded")


async def test_a_refusal_of_what_cannot_be_read_may_be_read(service: "Service") -> None:
    """A connection answers that itself, outside of all layers."""
    async with serving(service, origins=(ORIGIN,)) as served:
        for origin, allowed in ((ORIGIN, True), (OTHER, False)):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            head = f"GET / HTTP/1.1\r\nOrigin: {origin}\r\nHost: localhost\r\nno header\r\n\r\n"
            writer.write(head.encode())
            answer = (await reader.read()).decode()
            writer.close()

            assert answer.startswith("HTTP/1.1 400 ")
            assert (f"Access-Control-Allow-Origin: {ORIGIN}".lower() in answer.lower()) is allowed


async def test_where_no_origin_is_named_nothing_changes(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """A preflight is a method that no path takes."""
    async with start_service(tmp_path, Limits()) as service:
        answer = await preflight(service.client, "http://testserver", "POST")
        read = await service.client.get("/label-spaces", headers={"Origin": "http://localhost"})

    assert answer.status_code in (403, 405)
    assert not any(name.startswith("access-control-") for name in read.headers)
    assert "vary" not in read.headers


async def test_options_without_a_preflight_is_a_method_like_others(
    service: "Service", problem: Any
) -> None:
    """The paths say what they take."""
    answer = await service.client.request("OPTIONS", "/batch")

    assert problem(answer) == (405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    assert may_read(answer)


async def test_without_keys_a_page_that_is_named_is_not_refused(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Others still are, for work too, and hosts are looked at as before."""
    hosts = allowed_hosts(None, loopback=True, keys=False)
    access = Access(hosts=hosts, origins=frozenset({ORIGIN}))
    async with start_service(tmp_path, Limits(), access=access) as service:
        ask, site = service.client, {"Sec-Fetch-Site": "cross-site"}
        named = await ask.post(PATH, json=SAID, headers={"Origin": ORIGIN} | site)
        response = await preflight(ask, ORIGIN, "POST", "content-type")
        other = await ask.post(PATH, json=SAID, headers={"Origin": OTHER} | site)
        both = await ask.get("/label-spaces", headers=[("Origin", ORIGIN), ("Origin", OTHER)])
        misdirected = await ask.get("/label-spaces", headers={"Origin": ORIGIN, "Host": "evil.com"})

    assert (named.status_code, may_read(named), response.status_code) == (201, True, 200)
    assert problem(other) == (403, "cross-site-request")
    assert problem(both) == (403, "cross-site-request")
    assert problem(misdirected) == (421, "misdirected-request")


async def test_a_stream_may_be_read(service: "Service") -> None:
    """Its head says so before the first event."""
    await service.say("call-42", "Ann", "We won!")
    async with serving(service) as served:
        headers = {"Origin": ORIGIN, "Authorization": service.client.headers["Authorization"]}
        path = "/dialogues/call-42/events"
        async with served.client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200
            assert may_read(answer)
