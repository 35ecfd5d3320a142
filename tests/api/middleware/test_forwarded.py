"""Behind a proxy that serves something else at the same host."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.access.addresses import Hosts, Proxies, allowed_hosts, proxies
from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.links import prefix as shown_prefix
from service.api.links import under, with_prefix, without_prefix
from service.api.middleware.addressing import ForwardedRequests, Front
from service.api.middleware.auth import Access
from service.settings import Limits
from tests.api.routers.test_docs_page import Page
from tests.api.serving import serving

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

PREFIX = "/emotions"
PROXY, STRANGER = "10.0.0.7", "8.8.8.8"
SAID = {"speaker": "Ann", "text": "We won!", "label_space": "meld"}
BATCH = {"dialogues": [{"id": "a", "utterances": [{"speaker": "Ann", "text": "We won!"}]}]}
KNOWN = proxies([PROXY])

# What a proxy does to a path that begins with the prefix, and what the service is told of it.
WAYS = {
    "taken away, by a setting": (Front(PREFIX, KNOWN), {}, True),
    "left, by a setting": (Front(PREFIX, KNOWN), {}, False),
    "taken away, by a header": (Front("", KNOWN), {"X-Forwarded-Prefix": PREFIX}, True),
    "left, by a header": (Front("", KNOWN), {"X-Forwarded-Prefix": PREFIX}, False),
    "the header goes first": (Front("/inner", KNOWN), {"X-Forwarded-Prefix": PREFIX}, True),
    "each is another's": (Front("/inner", KNOWN), {"X-Forwarded-Prefix": PREFIX}, False),
    "said twice": (Front(PREFIX, KNOWN), {"X-Forwarded-Prefix": f"{PREFIX}/"}, False),
}

Start = Callable[[str], AbstractAsyncContextManager["Service"]]


class Proxy(httpx.AsyncBaseTransport):
    """Passes on what begins with the prefix; all else is another program's."""

    def __init__(self, inner: httpx.AsyncBaseTransport, added: dict[str, str], *, strip: bool):
        self.inner = inner
        self.added = added
        self.strip = strip

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if not path.startswith(f"{PREFIX}/"):
            return httpx.Response(418, request=request)
        if self.strip:
            request.url = request.url.copy_with(raw_path=path.removeprefix(PREFIX).encode())
        request.headers.update(self.added)
        return await self.inner.handle_async_request(request)


def client_of(
    service: "Service", address: str = PROXY, *, root_path: str = "", **proxy: Any
) -> httpx.AsyncClient:
    """One that connects from an address, through a proxy if there is one."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await service.app(scope | {"state": dict(service.state)}, receive, send)

    inner = httpx.ASGITransport(serve, client=(address, 4711), root_path=root_path)
    transport = Proxy(inner, **proxy) if proxy else inner
    return httpx.AsyncClient(transport=transport, base_url="https://erc.example.org")


@pytest.fixture
def start(start_service: "StartService", tmp_path: Path) -> Start:
    """Starts a service for one of the ways."""

    @asynccontextmanager
    async def start(way: str) -> AsyncIterator["Service"]:
        front, added, strip = WAYS[way]
        async with start_service(tmp_path, Limits(), front=front) as service:
            service.client = client_of(service, added=added, strip=strip)
            yield service

    return start


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_follows_links_stays_with_the_service(start: Start, way: str) -> None:
    """Every link that an answer holds leads through the proxy; the documentation works there."""
    async with start(way) as service:
        ask = service.client

        async def follow(link: str) -> httpx.Response:
            assert link.startswith(f"{PREFIX}/"), link
            answer = await ask.get(link)
            assert answer.status_code == 200, link
            return answer

        for _ in range(2):
            response = await ask.post(f"{PREFIX}/dialogues/call-42/utterances", json=SAID)
            assert response.status_code == 201

        page = await ask.get(f"{PREFIX}/dialogues/call-42?limit=1")
        assert page.links["next"]["url"] == page.json()["next"]
        following = await follow(page.json()["next"])
        assert [each["index"] for each in following.json()["utterances"]] == [1]

        headers = {"Prefer": "respond-async", "Idempotency-Key": "job"}
        accepted = await ask.post(f"{PREFIX}/batch", json=BATCH, headers=headers)
        again = await ask.post(f"{PREFIX}/batch", json=BATCH, headers=headers)
        await service.work()
        assert again.headers["location"] == accepted.headers["location"]
        assert again.json()["results"] == accepted.json()["results"]
        job = (await follow(accepted.headers["location"])).json()
        assert json.loads((await follow(job["results"])).text)["id"] == "a"

        missing = await ask.get(f"{PREFIX}/dialogues/nobody")
        kind = (await follow(missing.json()["type"])).json()
        assert kind["type"] == missing.json()["type"]
        for each in (await follow(f"{PREFIX}/problems")).json()["problems"]:
            assert each["type"].startswith(f"{PREFIX}/problems/")

        page = await follow(f"{PREFIX}/docs")
        for address in Page(page.text).addresses:
            if address != "data:,":
                await follow(urljoin(f"{PREFIX}/docs", address))
        document = await follow(f"{PREFIX}/openapi.json")
        assert document.json()["servers"] == [{"url": PREFIX}]


async def test_problems_within_batches_lead_there_too(start: Start) -> None:
    """In lines, and in the results of a job, which are stored; they are counted without it."""
    async with start("taken away, by a setting") as service:
        ask, refusals = service.client, list[Any]()
        lines = {"Content-Type": "application/x-ndjson"}
        for content in ("no JSON", '{"id": ""}'):
            answer = await ask.post(f"{PREFIX}/batch", content=content, headers=lines)
            accepted = await ask.post(
                f"{PREFIX}/batch", content=content, headers=lines | {"Prefer": "respond-async"}
            )
            await service.work()
            results = await ask.get(accepted.json()["results"])
            refusals += [json.loads(answer.text), json.loads(results.text)]
        counted = (await ask.get(f"{PREFIX}/metrics")).text

    assert [each["error"]["type"] for each in refusals] == [
        *2 * [f"{PREFIX}/problems/malformed-json"],
        *2 * [f"{PREFIX}/problems/invalid-request"],
    ]
    assert 'erc_dialogue_problems_total{type="malformed-json"} 2.0' in counted


def test_links_are_put_under_the_prefix_and_taken_from_it_wherever_they_stand() -> None:
    """Words that are no links stay, whatever they look like."""
    path = "/problems/utterance-too-long"
    stored = {
        "results": [{"id": "/jobs/1", "error": {"type": path, "detail": "/emotions/a"}}],
        "next": None,
        "probabilities": {"next": 0.5, "type": 0.5},
    }
    with under(PREFIX):
        shown = with_prefix(stored)
        assert shown["results"][0]["error"]["type"] == PREFIX + path
        assert without_prefix(shown) == stored
    shown["results"][0]["error"]["type"] = path
    assert shown == stored


async def test_an_answer_that_is_given_again_leads_the_way_that_is_asked(start: Start) -> None:
    """What is kept holds no prefix: the request may come by another way."""
    async with start("taken away, by a header") as service:
        headers = {"Prefer": "respond-async", "Idempotency-Key": "job"}
        first = await service.client.post(f"{PREFIX}/batch", json=BATCH, headers=headers)
        direct = await client_of(service).post("/batch", json=BATCH, headers=headers)

    assert direct.headers["idempotency-replayed"] == "true"
    assert first.headers["location"] == PREFIX + direct.headers["location"]
    assert first.json()["results"] == PREFIX + direct.json()["results"]


async def test_without_a_prefix_the_document_is_as_it_is_shipped(service: "Service") -> None:
    """It names no server: the one that it comes from."""
    assert "servers" not in (await service.client.get("/openapi.json")).json()


async def test_probes_need_no_prefix(start: Start) -> None:
    """Kubernetes asks the pod itself; what is asked through the proxy works too."""
    async with start("left, by a setting") as service:
        for path in ("/livez", "/readyz", "/emotions/livez", "/emotions/readyz"):
            assert (await client_of(service, STRANGER).get(path)).status_code == 200


async def test_a_server_may_be_told_of_the_prefix(
    start_service: "StartService", tmp_path: Path
) -> None:
    """As ASGI says: uvicorn's `root_path` stands in the path as well, whatever the proxy does."""
    async with start_service(tmp_path, Limits(), front=Front(PREFIX)) as service:
        ask = client_of(service, root_path=PREFIX)
        for path in ("/problems", f"{PREFIX}/problems", f"{PREFIX}{PREFIX}/problems"):
            answer = await ask.get(path)
            assert answer.status_code == 200
            assert answer.json()["problems"][0]["type"].startswith(f"{PREFIX}/problems/")


async def test_only_the_prefix_is_taken_away(start: Start) -> None:
    """Once, and where it is whole."""
    async with start("left, by a setting") as service:
        for path, status in {
            "/emotions": 404,
            "/emotionsdialogues/call-42": 404,
            "/emotions/emotions/label-spaces": 404,
            "/emotions//label-spaces": 404,
            "//emotions/label-spaces": 404,
            "/other/label-spaces": 404,
            "/emotions/label-spaces": 200,
            "/label-spaces": 200,
        }.items():
            answer = await client_of(service).get(f"https://erc.example.org{path}")
            assert answer.status_code == status, path


async def test_a_prefix_opens_nothing(start_service: "StartService", tmp_path: Path) -> None:
    """What is for an admin alone is so by every way."""
    file, key = tmp_path / "keys.json", new_key()
    entry = {"id": "one", "tenant": "acme", "scopes": ["read"], "sha256": digest(key).hex()}
    file.write_text(json.dumps({"keys": [entry]}))
    access = Access(Keyring(file), hosts=Hosts(anything=True))
    named = {"Authorization": f"Bearer {key}", "X-Forwarded-Prefix": "/other"}

    async with start_service(tmp_path, Limits(), access=access, front=Front(PREFIX)) as service:
        ask = client_of(service)
        for path in ("/metrics", "/openapi.json", "/docs", "/docs/start.js"):
            for before in ("", PREFIX):
                answer = await ask.get(f"{before}{path}", headers=named)
                assert answer.status_code == 403
            for before in (2 * PREFIX, f"{PREFIX}/%2e%2e", f"{PREFIX}/.", f"{PREFIX}/", "/other"):
                answer = await ask.get(f"{before}{path}", headers=named)
                assert answer.status_code in (403, 404)


UNUSABLE = [
    *("//evil.com", "https://evil.com", "http:evil.com", "evil.com", "/..", "/a/../b", "/./a"),
    *("/a//b", "/\\evil.com", "\\\\evil.com", "/%2e%2e", "/%2F/evil.com", "/a?b", "/a#b", "/a b"),
    *('/a"b', "/<script>", "/a;b", "/a\tb", "/a\r\nX: y", "/é", "/a, /b", "@evil.com", "/" * 9),
    *("/" + 201 * "a", "/docs", "/problems/x", ":", "."),
]


async def test_a_prefix_that_is_none_is_not_shown(
    start_service: "StartService", tmp_path: Path
) -> None:
    """Whatever a client has a proxy pass on, no link leaves the host."""
    async with start_service(tmp_path, Limits(jobs=100), front=Front("", KNOWN)) as service:
        ask = client_of(service)
        for given in UNUSABLE:
            headers = {b"X-Forwarded-Prefix": given.encode(), b"Prefer": b"respond-async"}
            accepted = await ask.post("/batch", json=BATCH, headers=headers)
            missing = await ask.get("/nothing", headers=headers)
            page = await ask.get("/openapi.json", headers=headers)

            assert accepted.headers["location"] == f"/jobs/{accepted.json()['id']}", given
            assert missing.json()["type"] == "/problems/no-such-path", given
            assert "servers" not in page.json(), given


async def test_two_prefixes_are_none(start_service: "StartService", tmp_path: Path) -> None:
    """Nobody can say which one is the proxy's."""
    async with start_service(tmp_path, Limits(), front=Front(PREFIX, KNOWN)) as service:
        headers = [("X-Forwarded-Prefix", "/a"), ("X-Forwarded-Prefix", "/b")]
        missing = await client_of(service).get("/nothing", headers=headers)

    assert missing.json()["type"] == f"{PREFIX}/problems/no-such-path"


@pytest.mark.parametrize("known", [Proxies(), KNOWN], ids=["by default", "where one is known"])
async def test_a_stranger_s_headers_are_passed_over(
    start_service: "StartService", tmp_path: Path, problem: Any, known: Proxies
) -> None:
    """By default everybody's, this machine's too."""
    hosts = allowed_hosts(("erc.example.org",), loopback=True, keys=False)
    front = Front("", known)
    headers = {
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Host": "erc.example.org",
        "Forwarded": "for=1.1.1.1;host=erc.example.org;proto=https",
    }
    async with start_service(
        tmp_path, Limits(), access=Access(hosts=hosts), front=front
    ) as service:
        for address in (STRANGER, "127.0.0.1"):
            ask = client_of(service, address)
            missing = await ask.get("/nothing", headers=headers)
            misdirected = await ask.get("/label-spaces", headers=headers | {"Host": "evil.com"})

            assert missing.json()["type"] == "/problems/no-such-path"
            assert problem(misdirected) == (421, "misdirected-request")


async def seen(front: Front, address: str | None, **headers: str) -> tuple[Any, Any, str]:
    """Scheme, client and prefix, as the layers within see them."""
    scopes = list[tuple[Any, Any, str]]()

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append((scope["scheme"], scope["client"], shown_prefix()))

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    given = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    client = None if address is None else (address, 4711)
    scope = {"type": "http", "path": "/", "scheme": "http", "client": client, "headers": given}
    await ForwardedRequests(look, front)(scope, receive, send)
    return scopes[0]


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("http", "http"),
        *((each, "http") for each in ("wss", "javascript", "https, http", "https://evil", "")),
    ],
)
async def test_the_scheme_is_one_of_two(proto: str, scheme: str) -> None:
    """Anything else is passed over."""
    assert (await seen(Front("", KNOWN), PROXY, x_forwarded_proto=proto))[0] == scheme


async def test_the_client_is_who_the_proxy_says() -> None:
    """Of a stranger, it is the stranger, whatever that says."""
    forwarded = {"x_forwarded_for": "1.1.1.1, 8.8.4.4", "x_forwarded_prefix": "/emotions"}

    assert await seen(Front("", KNOWN), PROXY, **forwarded) == ("http", ("8.8.4.4", 0), PREFIX)
    assert await seen(Front("", KNOWN), STRANGER, **forwarded) == ("http", (STRANGER, 4711), "")
    assert await seen(Front("", KNOWN), None, **forwarded) == ("http", None, "")
    assert await seen(Front("", proxies("*")), None, **forwarded) == (
        *("http", ("8.8.4.4", 0)),
        PREFIX,
    )


HOSTS_ASKED = [
    ("erc.example.org", "erc.example.org", None),
    ("localhost:8000", "erc.example.org:443", None),
    ("localhost:8000", "erc.example.org, localhost", None),
    ("localhost:8000", "evil.com", (421, "misdirected-request")),
    ("localhost:8000", "erc.example.org, evil.com", (421, "misdirected-request")),
    ("localhost:8000", "evil.com, erc.example.org", (421, "misdirected-request")),
    ("evil.com", "erc.example.org", (421, "misdirected-request")),
    ("localhost:8000", "a b", (400, "bad-request")),
    ("localhost:8000", "erc.example.org@evil.com", (400, "bad-request")),
    ("localhost:8000", "", (400, "bad-request")),
    ("localhost:8000", 300 * "a", (400, "bad-request")),
]


async def test_every_host_that_is_asked_for_is_one_of_the_service_s(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """A page whose name leads to this machine gets past neither, though the proxy is here too."""
    hosts = allowed_hosts(("erc.example.org",), loopback=True, keys=False)
    front = Front("", proxies(["127.0.0.1"]))
    async with start_service(
        tmp_path, Limits(), access=Access(hosts=hosts), front=front
    ) as service:
        ask = client_of(service, "127.0.0.1")
        for host, forwarded, refused in HOSTS_ASKED:
            headers = {"Host": host, "X-Forwarded-Host": forwarded}
            answer = await ask.get("/label-spaces", headers=headers)
            refusal = None if answer.status_code == 200 else problem(answer)
            assert refusal == refused, headers


async def test_a_page_of_the_host_that_was_asked_for_may_ask(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Without keys only such a page may; its host is the one before the proxy."""
    hosts = allowed_hosts((), loopback=False, keys=False)  # any address
    headers = {"Host": "10.0.0.9:8000", "X-Forwarded-Host": "192.0.2.1"}
    async with start_service(
        tmp_path, Limits(), access=Access(hosts=hosts), front=Front("", KNOWN)
    ) as service:
        ask = client_of(service)
        own = await ask.get("/label-spaces", headers=headers | {"Origin": "https://192.0.2.1"})
        other = await ask.get("/label-spaces", headers=headers | {"Origin": "https://192.0.2.2"})

    assert own.status_code == 200
    assert problem(other) == (403, "cross-site-request")


async def test_what_is_refused_before_it_is_read_leads_there_too(service: "Service") -> None:
    """A connection's own answers know the prefix that is set."""
    async with serving(service, prefix=PREFIX) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET / HTTP/9.9\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()

    assert json.loads(answer.partition("\r\n\r\n")[2])["type"] == f"{PREFIX}/problems/bad-request"
