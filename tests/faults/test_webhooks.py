"""The process that takes turns is killed again and again: each match is told of, under one id."""

import asyncio
import json
import multiprocessing
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.sessions.database import open_database
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore
from tests.clock import PATIENT_S
from tests.faults import teller

KILLS = 20
# The first utterance is stored before that, or the process lives on until it is.
SOONEST_S, LATEST_S = 0.1, 0.6
RULES = """
[[rules]]
name = "glad"
label = "joy"
label_space = "meld"
probability = 0.5
endpoint = "crm"

[[rules]]
name = "gloomy"
label = "negative"
label_space = "meld-sentiment"
probability = 0.5
turns = 3
of_last = 5
endpoint = "crm"

[endpoints.crm]
url = "http://127.0.0.1:{port}/"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
allow_private = true
"""


@contextmanager
def receiving(told: list[tuple[str, Any]]) -> Iterator[int]:
    """An endpoint that refuses every seventh attempt; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.append((self.headers["webhook-id"], json.loads(body)))
            self.send_response(503 if len(told) % 7 == 0 else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def matches(probabilities: list[dict[str, float]]) -> set[tuple[str, int]]:
    """The rule and the index of each match in a dialogue, counted from its beginning."""
    glad = [each["joy"] >= 0.5 for each in probabilities]
    gloomy = [negative(each) >= 0.5 for each in probabilities]
    expected = set()
    for index in range(len(probabilities)):
        if glad[index] and not (index and glad[index - 1]):
            expected.add(("glad", index))
        holds = sum(gloomy[max(0, index - 4) : index + 1]) >= 3
        held = sum(gloomy[max(0, index - 5) : index]) >= 3
        if holds and not held:
            expected.add(("gloomy", index))
    return expected


def negative(probabilities: dict[str, float]) -> float:
    """As data/label_spaces/meld-sentiment.toml."""
    others = sum(probabilities[label] for label in ("fear", "sadness", "disgust", "anger"))
    return others + 0.51 * probabilities["surprise"]


async def stored_matches(store: SessionStore) -> set[tuple[str, str, int]]:
    expected = set()
    for dialogue_id in teller.DIALOGUES:
        timeline = await store.timeline(teller.TENANT, dialogue_id)
        answers = [each.prediction["emotion"]["probabilities"] for each in timeline.utterances]
        expected |= {(rule, dialogue_id, index) for rule, index in matches(answers)}
    return expected


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_every_match_is_told_of_under_one_id(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/erc.sqlite3"
    if database == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = open_database(url)
    await migrate(opened)
    store = SessionStore(opened)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.faults.teller"])
    told = list[tuple[str, Any]]()
    file = tmp_path / "rules.toml"

    def begin(seed: int, *, is_quiet: bool = False) -> Any:
        values = {"url": url, "rules_file": file, "seed": seed, "is_quiet": is_quiet}
        process = processes.Process(target=teller.run, kwargs=values, daemon=True)
        process.start()
        return process

    async def count() -> int:
        since = (await store.webhooks.pending()).count
        return since + len(told)

    with receiving(told) as port:
        file.write_text(RULES.replace("{port}", str(port)))
        for kill in range(KILLS):
            before = await count()
            process = begin(kill)
            deadline = time.monotonic() + PATIENT_S
            while await count() == before:
                assert process.is_alive()
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            await asyncio.sleep(random.uniform(SOONEST_S, LATEST_S))
            assert process.is_alive()
            process.kill()
            process.join()
        pending = (await store.webhooks.pending()).count
        process = begin(KILLS, is_quiet=True)
        async with asyncio.timeout(PATIENT_S):
            while (await store.webhooks.pending()).count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        process.kill()
        process.join()

    expected = await stored_matches(store)
    await store.close()
    ids, bodies = defaultdict(set), defaultdict(set)
    for webhook_id, body in told:
        data = body["data"]
        ids[data["rule"], data["dialogue_id"], data["index"]].add(webhook_id)
        bodies[webhook_id].add(json.dumps(body))
    print(f"{len(expected)} matches, {pending} left by the last kill, {len(told)} attempts")
    assert len(expected) >= KILLS
    assert ids.keys() == expected
    assert {len(each) for each in (*ids.values(), *bodies.values())} == {1}
