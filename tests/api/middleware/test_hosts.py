"""What a web page of another host can have a browser send."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.access.addresses import allowed_hosts
from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access
from service.settings import Limits
from tests.api.numbers import at, numbers
from tests.api.serving import serving

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

PATH = "/dialogues/call-42/utterances"
SAID = {"speaker": "Ann", "text": "We won!"}
KEYLESS = Access(hosts=allowed_hosts(("erc.example.org",), loopback=True, keys=False))
OWN = "http://127.0.0.1:8000"


@pytest.fixture
async def service(start_service: "StartService", tmp_path: Path) -> AsyncIterator["Service"]:
    """One without keys on a loopback address."""
    async with start_service(tmp_path, Limits(), access=KEYLESS) as service:
        service.client.base_url = httpx.URL(OWN)
        yield service


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:8000", "localhost.evil.com", "192.168.1.5", "0.0.0.0:8000"]
)
async def test_a_page_that_has_its_name_lead_here_is_refused(
    service: "Service", problem: Any, host: str
) -> None:
    """Whatever it asks for; nothing is read, written or looked for."""
    headers = {"Host": host, "X-Forwarded-Host": "localhost", "Origin": f"http://{host}"}

    for method, path in (("POST", PATH), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/none")):
        refused = await service.client.request(method, path, json=SAID, headers=headers)

        assert problem(refused) == (421, "misdirected-request")
        assert "ERC_ALLOWED_HOSTS" in refused.json()["detail"]

    assert (await numbers(service))[at("erc_rejections_total", reason="host")] == 4
    kind = at("erc_problems_total", type="misdirected-request")
    assert (await numbers(service))[kind] == 4
    assert (await service.client.get("/dialogues/call-42")).status_code == 404


@pytest.mark.parametrize(
    "host", ["localhost:8000", "LOCALHOST", "localhost.", "[::1]:8000", "erc.example.org"]
)
async def test_the_service_is_asked_for_by_its_own_hosts(service: "Service", host: str) -> None:
    """This machine's, and those that are set."""
    response = await service.client.post(PATH, json=SAID, headers={"Host": host})

    assert response.status_code == 201


@pytest.mark.parametrize("host", ["localhost@evil.com", "evil.com@localhost", "a b", ""])
async def test_what_is_no_host_is_refused(service: "Service", problem: Any, host: str) -> None:
    """Rather than taken for one."""
    refused = await service.client.get("/label-spaces", headers={"Host": host})

    assert problem(refused) == (400, "bad-request")


async def test_who_says_nothing_of_hosts_is_asked_by_this_machine_alone(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """An argument that is forgotten opens nothing."""
    async with start_service(tmp_path, Limits(), access=Access()) as service:
        for host in ("evil.com", "192.168.1.5"):
            refused = await service.client.get("/label-spaces", headers={"Host": host})
            assert problem(refused) == (421, "misdirected-request")
        for host in ("localhost:8000", "127.0.0.1", "[::1]"):
            answer = await service.client.get("/label-spaces", headers={"Host": host})
            assert answer.status_code == 200


async def test_probes_ask_for_any_host(service: "Service") -> None:
    """Kubernetes' name the address of the pod, and they tell nothing of anybody."""
    for path in ("/livez", "/readyz"):
        answer = await service.client.get(path, headers={"Host": "10.0.0.5:8000"})
        assert answer.status_code == 200


async def status_of(port: int, *lines: str) -> int:
    """What a request is answered that only a client of one's own would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET /label-spaces HTTP/1.1", "Host: localhost"], 200),
        (["GET /label-spaces HTTP/1.1"], 400),
        (["GET /label-spaces HTTP/1.0"], 400),
        (["GET /label-spaces HTTP/1.1", "Host: localhost", "Host: localhost"], 400),
        (["GET /label-spaces HTTP/1.1", "Host: localhost", "Host: evil.com"], 400),
        (["GET /label-spaces HTTP/1.1", "Host: evil.com", "Host: localhost"], 400),
        (["GET /label-spaces HTTP/1.1", "Host:"], 400),
        (["GET http://localhost/label-spaces HTTP/1.1", "Host: localhost"], 200),
        (["GET http://localhost/label-spaces HTTP/1.1", "Host: evil.com"], 200),
        (["GET http://evil.com/label-spaces HTTP/1.1", "Host: localhost"], 421),
        (["GET HTTP://evil.com/label-spaces HTTP/1.1", "Host: localhost"], 421),
        (["GET http://localhost@evil.com/label-spaces HTTP/1.1", "Host: localhost"], 400),
        (["GET http://evil.com@localhost/label-spaces HTTP/1.1", "Host: localhost"], 400),
        (["GET //evil.com/label-spaces HTTP/1.1", "Host: localhost"], 404),
    ],
)
async def test_one_host_is_named_and_by_the_target_first(
    service: "Service", lines: list[str], status: int
) -> None:
    """As RFC 9112 has it: neither none nor two; an absolute target goes before the header."""
    async with serving(service) as served:
        assert await status_of(served.port, *lines) == status


# What a page sends without asking first (the Fetch standard's simple requests).
SIMPLE = [
    {"content": json.dumps(SAID)},
    {"content": json.dumps(SAID), "headers": {"Content-Type": "text/plain"}},
    {"content": json.dumps(SAID), "headers": {"Content-Type": "text/plain;application/json"}},
    {"data": {json.dumps(SAID): ""}},
    {"files": {"a": ("a", json.dumps(SAID), "application/json")}},
]


@pytest.mark.parametrize("sent", SIMPLE)
@pytest.mark.parametrize(
    "path", [PATH, "/batch", "/demonstrations", "/dialogues/call-42/utterances/0/label"]
)
async def test_what_a_page_sends_without_asking_first_writes_nothing(
    service: "Service", path: str, sent: dict[str, Any]
) -> None:
    """Also where the browser says nothing of the page: a body must be declared as JSON."""
    answer = await service.client.post(path, **sent)

    assert answer.status_code in (405, 415)
    assert (await service.client.get("/dialogues/call-42")).status_code == 404


@pytest.mark.parametrize(
    "says",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "https://127.0.0.1.evil.com:8000"},
        {"Origin": "http://127.0.0.1@evil.com"},
        {"Origin": "http://8.8.8.8"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://[evil"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", PATH),
        ("DELETE", "/dialogues/call-42"),
        ("OPTIONS", PATH),
        ("GET", "/dialogues/call-42/forecast?speaker=Ann"),
    ],
)
async def test_without_keys_pages_of_other_hosts_are_refused(
    service: "Service", problem: Any, method: str, path: str, says: dict[str, str]
) -> None:
    """Reading is work too."""
    refused = await service.client.request(method, path, headers=says)

    assert problem(refused) == (403, "cross-site-request")
    assert (await numbers(service))[at("erc_rejections_total", reason="host")] == 1


@pytest.mark.parametrize(
    "says",
    [
        {"Origin": OWN, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://erc.example.org"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},
        {},
    ],
)
async def test_a_page_of_the_own_hosts_and_a_link_are_answered(
    service: "Service", says: dict[str, str]
) -> None:
    """As are clients that are no browsers."""
    assert (await service.client.get("/label-spaces", headers=says)).status_code == 200


async def test_where_there_are_keys_a_page_that_has_one_may_ask(
    start_service: "StartService", tmp_path: Path
) -> None:
    """Somebody gave it to the page; a browser sends none by itself."""
    file, key = tmp_path / "keys.json", new_key()
    entry = {"id": "one", "tenant": "acme", "scopes": ["write"], "sha256": digest(key).hex()}
    file.write_text(json.dumps({"keys": [entry]}))
    hosts = allowed_hosts(None, loopback=False, keys=True)

    async with start_service(
        tmp_path, Limits(), access=Access(Keyring(file), hosts=hosts)
    ) as service:
        headers = {"Origin": "https://app.example", "Authorization": f"Bearer {key}"}
        response = await service.client.post(PATH, json=SAID, headers=headers)

    assert response.status_code == 201
