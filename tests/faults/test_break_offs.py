"""Clients that hang up at any moment of any request, while others work."""

import asyncio
import json
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.access.keys import Key, Scope, entry, hash_given, new_key
from tests.e2e.conftest import Service
from tests.faults.conftest import LONGEST_WAIT_S, number

BREAK_OFFS = 500
AT_ONCE = 2
LATEST_S = 0.04
JOBS = 60
DIALOGUES = 8
SCOPES = frozenset({Scope.READ, Scope.WRITE})

jobs: list[str] = []  # those that there are before anybody hangs up

Draw = Callable[[random.Random], tuple[str, str, object]]


def _dialogue(rng: random.Random) -> str:
    return f"/dialogues/d-{rng.randrange(DIALOGUES)}"


def _said(rng: random.Random) -> dict[str, str]:
    return {"speaker": "Ann", "text": f"line {rng.random()}", "label_space": "meld"}


# A method, a path and a body for every write route and every read route.
ROUTES: dict[str, Draw] = {
    "post": lambda rng: ("POST", f"{_dialogue(rng)}/utterances", _said(rng)),
    "correct": lambda rng: (
        "PUT",
        f"{_dialogue(rng)}/utterances/0/label",
        {"label": rng.choice(["joy", "anger", "fear"]), "label_space": "meld"},
    ),
    "take back": lambda rng: ("DELETE", f"{_dialogue(rng)}/utterances/0/label", None),
    "erase": lambda rng: ("DELETE", _dialogue(rng), None),
    "timeline": lambda rng: ("GET", _dialogue(rng), None),
    "events": lambda rng: ("GET", f"{_dialogue(rng)}/events", None),
    "forecast": lambda rng: ("GET", f"{_dialogue(rng)}/forecast?speaker=Ann", None),
    "batch": lambda rng: ("POST", "/batch", _batch(rng)),
    "job": lambda rng: ("POST", "/batch", _batch(rng)),
    "read job": lambda rng: ("GET", f"/jobs/{rng.choice(jobs)}", None),
    "results": lambda rng: ("GET", f"/jobs/{rng.choice(jobs)}/results", None),
    "delete job": lambda rng: ("DELETE", f"/jobs/{rng.choice(jobs)}", None),
    "add": lambda rng: ("POST", "/demonstrations", {"demonstrations": [_demonstration(rng)]}),
    "list": lambda rng: ("GET", "/demonstrations", None),
    "read": lambda rng: ("GET", f"/demonstrations/own-{rng.randrange(9)}", None),
    "delete": lambda rng: ("DELETE", f"/demonstrations/own-{rng.randrange(9)}", None),
}


def _batch(rng: random.Random) -> object:
    utterances = [{"speaker": "Ann", "text": f"line {rng.random()}"} for _ in range(3)]
    return {"label_space": "meld", "dialogues": [{"id": "a", "utterances": utterances}]}


def _demonstration(rng: random.Random) -> dict[str, str]:
    number = rng.randrange(9)
    return {"id": f"own-{number}", "label_space": "meld", "label": "joy", "text": f"own {number}"}


def _request(name: str, rng: random.Random, key: str) -> bytes:
    method, path, content = ROUTES[name](rng)
    body = b"" if content is None else json.dumps(content).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}"]
    if content is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if name == "job":
        head.append("Prefer: respond-async")
    if method != "GET" and rng.random() < 0.5:
        head.append(f"Idempotency-Key: k-{rng.randrange(10_000)}")
    return "\r\n".join([*head, "", ""]).encode() + body


async def _break_off(service: Service, request: bytes, rng: random.Random) -> None:
    url = httpx.URL(service.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(request)
    await writer.drain()
    await asyncio.sleep(rng.uniform(0, LATEST_S))
    if rng.random() < 0.5:  # a reset in place of an orderly end
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def _keys(folder: Path) -> tuple[Path, dict[str, str]]:
    made = {tenant: new_key() for tenant in ("leaving", "working")}
    file = folder / "keys.toml"
    file.write_text(
        "\n".join(
            entry(Key(id=tenant, tenant=tenant, scopes=SCOPES, sha256=hash_given(key)))
            for tenant, key in made.items()
        )
    )
    return file, made


async def _work(client: httpx.AsyncClient, ended: asyncio.Event) -> list[tuple[str, int, float]]:
    """Every kind of write, again and again; what each was answered, and after how long."""
    answers = []
    number = 0
    while not ended.is_set():
        number += 1
        at = f"/dialogues/mine-{number}"
        turn = {"speaker": "Bo", "text": f"mine {number}", "label_space": "meld"}
        correction = {"label": "joy", "label_space": "meld"}
        for name, request in (
            ("post", client.build_request("POST", f"{at}/utterances", json=turn)),
            ("correct", client.build_request("PUT", f"{at}/utterances/0/label", json=correction)),
            ("erase", client.build_request("DELETE", at)),
        ):
            begun = time.monotonic()
            answer = await client.send(request)
            answers.append((name, answer.status_code, time.monotonic() - begun))
    return answers


def begin_jobs(service: Service, key: str) -> list[str]:
    headers = {"Authorization": f"Bearer {key}", "Prefer": "respond-async"}
    body = _batch(random.Random(1))
    responses = [service.client.post("/batch", json=body, headers=headers) for _ in range(JOBS)]
    return [each.json()["id"] for each in responses]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_whoever_hangs_up_keeps_nobody_waiting(
    mortal: Service, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Another tenant writes all the while, without a refusal and without a long wait; after it all
    the service is ready, and what was erased is not in SQLite's files.
    """
    service = mortal
    file, keys = _keys(tmp_path)
    service.environment["ERC_KEYS_FILE"] = str(file)
    service.environment["ERC_LIMITS__JOBS"] = "10000"
    if database == "postgresql":
        service.environment["ERC_DATABASE__URL"] = request.getfixturevalue("postgres_url")
    service.start()

    jobs[:] = begin_jobs(service, keys["leaving"])

    async def attack() -> list[tuple[str, int, float]]:
        rng = random.Random(7)
        names = [*ROUTES] * (BREAK_OFFS // len(ROUTES) + 1)
        rng.shuffle(names)
        ended = asyncio.Event()
        headers = {"Authorization": f"Bearer {keys['working']}"}
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60) as client:
            working = asyncio.create_task(_work(client, ended))

            async def leave() -> None:
                while names:
                    request = _request(names.pop(), rng, keys["leaving"])
                    await _break_off(service, request, rng)

            await asyncio.gather(*(leave() for _ in range(AT_ONCE)))
            ended.set()
            return await working

    answers = asyncio.run(attack())
    refused = [each for each in answers if each[1] >= 500]
    longest = max(answers, key=lambda each: each[2])
    print(f"{len(answers)} writes beside {BREAK_OFFS} break-offs, the longest {longest}")

    assert len(answers) > 10
    assert number(service, "erc_rejections_total", reason="client_left") > BREAK_OFFS / 10
    assert refused == []
    assert longest[2] < LONGEST_WAIT_S
    assert httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200
    if database == "sqlite":
        erased = b"mine 1"
        files = [*tmp_path.glob("erc.sqlite3*")]
        assert files
        assert not any(erased in each.read_bytes() for each in files)
    assert service.stop() == 0
