"""The service is killed at random moments under load: nothing that it acknowledged is lost."""

import asyncio
import json
import os
import random
from collections import Counter
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Service
from tests.faults.conftest import eventually, number
from tests.faults.ledger import FOLLOWED, Asked, Ledger

KILLS = int(os.environ.get("ERC_TEST_KILLS", "1"))
SOONEST_S, LATEST_S = 0.3, 3.0
PAGE = 1000


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_acknowledged_is_there_after_each_kill(
    mortal: Service, database: str, request: pytest.FixtureRequest
) -> None:
    """Each utterance with its prediction, at its index, once, also where its request was sent again
    under its key; corrections and the demonstrations made of them, added demonstrations, erasures;
    jobs, each result once; and a stream of events goes on, without a gap, where it broke off.
    """
    service = mortal
    service.environment["ERC_LIMITS__JOBS"] = "1000"
    if database == "postgresql":
        service.environment["ERC_DATABASE__URL"] = request.getfixturevalue("postgres_url")
    ledger = Ledger()
    service.start()
    for _ in range(KILLS):
        after_s = random.uniform(SOONEST_S, LATEST_S)
        asyncio.run(kill_under_load(service, ledger, after_s))
        unanswered = [each for each in ledger.asked() if each.status is None]
        print(f"killed after {after_s:.2f} s, {len(unanswered)} requests unanswered")
        service.start()
        asyncio.run(repeat(service, unanswered))
        for dialogue, turns in ledger.said.items():
            check_dialogue(service, dialogue, turns)
    answered = sum(each.status is not None for each in ledger.asked())
    print(f"{answered} requests acknowledged, {len(ledger.events)} events before the last kill")

    check_corrections(service, ledger)
    check_demonstrations(service, ledger)
    check_erasures(service, ledger)
    check_events(service, ledger)
    check_jobs(service, ledger)
    service.kill()


async def kill_under_load(service: Service, ledger: Ledger, after_s: float) -> None:
    killed = asyncio.Event()
    asking = asyncio.create_task(ledger.ask_until(service.url, killed))
    # On a slow machine the time would be over before anything is done that a kill could undo.
    async with asyncio.timeout(120):
        await ledger.begun.wait()
    await asyncio.sleep(after_s)
    assert not asking.done(), asking.exception()
    killed.set()
    await asyncio.to_thread(service.kill)
    await asking


async def repeat(service: Service, unanswered: list[Asked]) -> None:
    """Send again what may have been done, twice: the second time it is answered as the first."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        for each in unanswered:
            if each.key is None:
                continue
            first, second = [await each.send(client) for _ in range(2)]
            assert first is not None
            assert second is not None
            assert second.headers["idempotency-replayed"] == "true"
            assert first.content == second.content


def timeline(service: Service, dialogue: str) -> list[Any]:
    utterances: list[Any] = []
    following = f"/dialogues/{dialogue}"
    while following:
        page = service.client.get(following).json()
        utterances += page["utterances"]
        following = page["next"]
    return utterances


def check_dialogue(service: Service, dialogue: str, turns: list[Asked]) -> None:
    stored = timeline(service, dialogue)
    assert [each["index"] for each in stored] == [*range(len(stored))]
    for each in turns:
        if each.answer is not None:
            kept = stored[each.answer["index"]]
            assert {name: kept[name] for name in each.answer} == each.answer
    there = Counter(each["text"] for each in stored)
    assert set(there.values()) <= {1}
    assert {a.body["text"] for a in turns if a.answer} <= set(there)
    assert set(there) <= {a.body["text"] for a in turns}


def check_corrections(service: Service, ledger: Ledger) -> None:
    """The last one holds."""
    stored = {dialogue: timeline(service, dialogue) for dialogue in ledger.said}
    assert ledger.corrected
    for (dialogue, index), request in ledger.corrected.items():
        assert stored[dialogue][index]["correction"]["label"] == request[-1].body["label"]


def demonstrations(service: Service) -> dict[str, list[str]]:
    """The labels that each text is shown with."""
    texts_of: dict[str, list[str]] = {}
    query: dict[str, Any] = {"label_space": "meld", "limit": PAGE}
    while True:
        page = service.client.get("/demonstrations", params=query).json()
        for each in page["demonstrations"]:
            texts_of.setdefault(each["text"], []).append(each["label"])
        if page["next"] is None:
            return texts_of
        query["after"] = page["next"]


def check_demonstrations(service: Service, ledger: Ledger) -> None:
    """One for each correction, as the last one says, and those that were added, once."""
    wanted = {each.body["demonstrations"][0]["text"]: ["joy"] for each in ledger.shown}
    stored = {dialogue: timeline(service, dialogue) for dialogue in ledger.said}
    for (dialogue, index), request in ledger.corrected.items():
        wanted[stored[dialogue][index]["text"]] = [request[-1].body["label"]]
    eventually(lambda: wanted.items() <= demonstrations(service).items(), 60)


def check_erasures(service: Service, ledger: Ledger) -> None:
    assert ledger.erased
    for dialogue in ledger.erased:
        assert service.client.get(f"/dialogues/{dialogue}").status_code == 404


def check_events(service: Service, ledger: Ledger) -> None:
    """Of every version of the dialogue there is one, in order; predictions are as stored."""
    last = service.client.get(f"/dialogues/{FOLLOWED}", params={"limit": 1}).headers["etag"]
    if ledger.events[-1][0] != last.strip('"'):
        asyncio.run(read_to(service, ledger, last.strip('"')))
    versions = [identifier.split(".") for identifier, _, _ in ledger.events]
    assert len({generation for generation, _ in versions}) == 1
    assert [int(version) for _, version in versions] == [*range(1, len(versions) + 1)]
    stored = timeline(service, FOLLOWED)
    predictions = [data for _, name, data in ledger.events if name == "prediction"]
    for each in stored:
        del each["correction"]
    assert predictions == stored


async def read_to(service: Service, ledger: Ledger, last: str) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        await ledger.follow(client, last)


def check_jobs(service: Service, ledger: Ledger) -> None:
    """Each is done, those that were accepted and no others, with one result for each dialogue."""
    jobs = [request.answer["id"] for request in ledger.jobs]
    eventually(lambda: number(service, "erc_jobs", state="done") == len(jobs), 120)
    assert number(service, "erc_jobs", state="queued") == 0
    assert number(service, "erc_jobs", state="running") == 0
    assert len(set(jobs)) == len(jobs)
    for job, request in zip(jobs, ledger.jobs, strict=True):
        rows = service.client.get(f"/jobs/{job}/results").text.splitlines()
        results = [json.loads(line) for line in rows]
        given = request.body["dialogues"]
        assert [each["line"] for each in results] == [*range(1, len(given) + 1)]
        assert [each["id"] for each in results] == [each["id"] for each in given]
        assert all(len(each["utterances"]) == 6 for each in results)
