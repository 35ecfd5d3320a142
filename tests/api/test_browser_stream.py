"""The module that docs/browsers.md shows, run as it is against a service of another origin."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.access.addresses import allowed_hosts
from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access
from service.settings import Limits
from tests.api.serving import serving
from tests.clock import PATIENT_S

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

MODULE = Path(__file__).parents[2] / "service" / "console" / "static" / "follow.mjs"
ORIGIN = "http://app.example.org:3000"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

# Node asks whatever it is told to. This has `fetch` ask for leave first, as a browser does.
PROGRAM = """
const [module, origin, service, dialogue, key] = process.argv.slice(1);
const plain = globalThis.fetch;
const need = (value, what) => { if (!value) throw new Error(`blocked: ${what}`); };
const lower = (text) => (text ?? "").toLowerCase().split(",").map((each) => each.trim());
globalThis.fetch = async (address, options) => {
  const names = Object.keys(options.headers).filter((name) => name.toLowerCase() !== "accept");
  if (names.length) {
    const preflight = await plain(address, { method: "OPTIONS", headers: {
      Origin: origin,
      "Access-Control-Request-Method": "GET",
      "Access-Control-Request-Headers": names.sort().join(",").toLowerCase(),
    } });
    need(preflight.ok && preflight.headers.get("access-control-allow-origin") === origin, "origin");
    const allowed = lower(preflight.headers.get("access-control-allow-headers"));
    need(names.every((name) => allowed.includes(name.toLowerCase())), names);
  }
  const headers = { ...options.headers, Origin: origin };
  const answer = await plain(address, { ...options, headers });
  need(answer.headers.get("access-control-allow-origin") === origin, "answer");
  return answer;
};
const { follow } = await import(module);
try {
  for await (const event of follow(service, dialogue, { key })) console.log(JSON.stringify(event));
} catch (error) {
  console.log(JSON.stringify({ error: error.message, cause: error.cause }));
}
"""


@asynccontextmanager
async def following(port: int, dialogue_id: str, key: str) -> AsyncIterator[Any]:
    """Reads what the module yields, one at a time; None once it has ended."""
    url = f"http://127.0.0.1:{port}"
    program = await asyncio.create_subprocess_exec(
        *(str(NODE), "--input-type=module", "-e", PROGRAM, "--"),
        *(MODULE.as_uri(), ORIGIN, url, dialogue_id, key),
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    out = program.stdout

    async def read() -> Any:
        line = await asyncio.wait_for(out.readline(), PATIENT_S)
        return json.loads(line) if line else None

    try:
        yield read
    finally:
        if program.returncode is None:
            program.kill()
        await program.wait()


@pytest.fixture
def key() -> str:
    return new_key()


@pytest.fixture
async def service(
    start_service: "StartService", tmp_path: Path, key: str
) -> AsyncIterator["Service"]:
    """One with keys, whose pages are another origin's."""
    file = tmp_path / "keys.json"
    entry = {
        "id": "one",
        "tenant": "acme",
        "scopes": ["read", "write"],
        "sha256": digest(key).hex(),
    }
    file.write_text(json.dumps({"keys": [entry]}))
    hosts = allowed_hosts(None, loopback=True, keys=True)
    access = Access(Keyring(file), hosts=hosts, origins=frozenset({ORIGIN}))
    async with start_service(tmp_path, Limits(), access=access) as service:
        service.client.headers["Authorization"] = f"Bearer {key}"
        yield service


async def test_every_event_comes_once_whatever_breaks(service: "Service", key: str) -> None:
    """A stream that the service ends is gone on with, and an erasure ends it."""
    words = ["We won!", "Ünglaublich \N{PARTY POPPER}", "data: no\n\nid: 7"]
    async with serving(service) as served:
        await service.say("call-42", "Ann", words[0])
        async with following(served.port, "call-42", key) as read:
            events = [await read()]
            for text in words[1:]:
                for stream in service.door.streams._open:
                    stream.end()
                await service.say("call-42", "Bob", text)
                events.append(await read())
            await service.client.delete("/dialogues/call-42")
            last, end = await read(), await read()

    assert [each["data"]["text"] for each in events] == words
    assert [each["event"] for each in events] == 3 * ["prediction"]
    assert len({each["id"] for each in events}) == 3
    assert last["event"] == "erased"
    assert end is None


@pytest.mark.parametrize(
    ("dialogue_id", "good", "kind"),
    [("nobody", True, "dialogue-not-found"), ("call-42", False, "unauthenticated")],
)
async def test_a_refusal_is_told_with_its_cause(
    service: "Service", key: str, dialogue_id: str, good: bool, kind: str
) -> None:
    """It is not asked again and again; the page may read why."""
    async with serving(service) as served:
        await service.say("call-42", "Ann", "We won!")
        async with following(served.port, dialogue_id, key if good else new_key()) as read:
            told, end = await read(), await read()

    assert told["cause"]["type"] == f"/problems/{kind}"
    assert end is None


async def test_a_proxy_whose_service_is_away_is_asked_again(key: str) -> None:
    """It says 502 and the like, in words of its own; the module goes on."""
    statuses = iter([502, 503, 504])
    refused = 0

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        head = await reader.readuntil(b"\r\n\r\n")
        allow = f"Access-Control-Allow-Origin: {ORIGIN}\r\nConnection: close\r\n"
        allow += "Access-Control-Allow-Headers: authorization, last-event-id\r\n"
        status = 200 if head.startswith(b"OPTIONS") else next(statuses, 204)
        refused += status > 204
        body = "\r\n" if status == 204 else "Content-Length: 6\r\n\r\n<html>"
        writer.write(f"HTTP/1.1 {status} Said\r\n{allow}{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with following(port, "call-42", key) as read:
            end = await read()

    assert (end, refused) == (None, 3)
