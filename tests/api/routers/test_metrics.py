"""What /metrics says of a running service, and that clients cannot make it say more and more."""

import asyncio
import math
import shutil
from asyncio.subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)

from tests.api.numbers import Labels, at, numbers

if TYPE_CHECKING:
    from tests.api.conftest import Service

SAID = {"speaker": "Ann", "text": "We won!"}


async def test_problems_are_counted_by_their_type(service: "Service") -> None:
    """Those that no router and no handler has answered too; an answer that is none is not."""
    await service.say("call-42", "Ann", "We won!")
    await service.say("call-42", "Ann", "We won!", label_space="made-up")
    await service.client.get("/nothing/here")
    await service.client.get("/nothing/there")
    service.engine.goes_away()
    await service.say("call-42", "Ann", "We won!")
    service.engine.failure = RuntimeError("a bug")
    await service.say("call-42", "Ann", "We won!")
    service.door.draining = True
    await service.say("call-42", "Ann", "We won!")

    samples = await numbers(service)

    counted = {
        dict(labels)["type"]: count
        for (name, labels), count in samples.items()
        if name == "erc_problems_total" and count
    }
    assert counted == {
        "unsupported-label-space": 1,
        "no-such-path": 2,
        "engine-unavailable": 1,
        "internal-error": 1,
        "shutting-down": 1,
    }


async def test_problems_of_single_dialogues_are_counted_apart(service: "Service") -> None:
    """Of lines and of a job, each once; the request itself has none."""
    lines = b'{\n{"id":"b","utterances":[{"speaker":"Ann","text":"Hi."}]}\n'
    headers = {"Content-Type": "application/x-ndjson"}

    await service.client.post("/batch", content=lines, headers=headers)
    await service.client.post(
        "/batch", content=lines, headers=headers | {"Prefer": "respond-async"}
    )
    await service.work()

    samples = await numbers(service)
    assert samples[at("erc_dialogue_problems_total", type="malformed-json")] == 2
    assert not any(count for (name, _), count in samples.items() if name == "erc_problems_total")


async def test_what_was_read_only_by_its_end_is_counted(service: "Service") -> None:
    """However it was asked: as a turn, in a batch, or by a forecast."""
    long = SAID | {"text": "? " * 900}

    await service.client.post("/dialogues/call-42/utterances", json=long)
    await service.forecast("call-42", speaker="Ann")
    await service.client.post(
        "/batch", json={"dialogues": [{"id": "a", "utterances": [SAID, long, SAID]}]}
    )

    assert (await numbers(service))[at("erc_truncated_total")] == 3


async def test_people_who_correct_say_whether_they_agree(service: "Service") -> None:
    """In the label space of the prediction, or, from another one, by the unified labels.

    What is said again is not news; what is said anew is.
    """
    service.engine.choice = 4
    for n in range(3):
        await service.say("call-42", "Ann", f"We won {n}!", label_space="meld")

    async def correct(index: int, label_space: str, label: str) -> None:
        answer = await service.client.put(
            f"/dialogues/call-42/utterances/{index}/label",
            json={"label_space": label_space, "label": label},
        )
        assert answer.status_code == 200

    await correct(0, "meld", "joy")
    await correct(0, "meld", "joy")
    await correct(1, "unified", "joyful")
    await correct(2, "unified", "sad")
    await correct(2, "meld", "anger")

    samples = await numbers(service)
    prediction = {"label_space": "meld", "label": "joy"}
    assert samples[at("erc_corrections_total", **prediction, verdict="agreed")] == 2
    assert samples[at("erc_corrections_total", **prediction, verdict="disagreed")] == 2


async def test_what_lies_in_the_database_is_counted(service: "Service") -> None:
    """Dialogues that go on, of all tenants, and corrections that wait for the demonstrations."""
    await service.say("call-42", "Ann", "We won!")
    service.speak_for("two")
    await service.say("call-42", "Ann", "We won!")
    await service.lose_demonstrations()
    await service.client.put("/dialogues/call-42/utterances/0/label", json={"label": "joyful"})

    samples = await numbers(service)

    assert samples[at("erc_dialogues_open")] == 2
    assert samples[at("erc_deliveries_pending")] == 1


async def test_nothing_is_said_of_a_database_that_does_not_answer(service: "Service") -> None:
    """A number from before would pass for one of now; the rest is told all the same."""
    await service.say("call-42", "Ann", "We won!")
    await numbers(service)
    await service.lose_database()

    samples = await numbers(service)

    assert math.isnan(samples[at("erc_dialogues_open")])
    assert math.isnan(samples[at("erc_jobs", state="done")])
    assert samples[at("erc_predictions_total", label_space="unified", label="joyful")] == 1


async def test_limits_stand_beside_what_they_limit(service: "Service") -> None:
    """Saturation is a quotient of two series with the same labels."""
    samples = await numbers(service)

    for priority, requests, utterances in (("interactive", 256, 8), ("batch", 4, 4)):
        assert samples[at("erc_requests_limit", priority=priority)] == requests
        assert samples[at("erc_utterances_limit", priority=priority)] == utterances
        assert samples[at("erc_requests_in_flight", priority=priority)] == 0
        assert samples[at("erc_utterances_in_flight", priority=priority)] == 0
    assert samples[at("erc_queue_limit")] == 128
    assert samples[at("erc_engine_silent_seconds")] == 0


async def test_clients_can_make_no_new_series(service: "Service") -> None:
    """Whatever they write into paths, names, headers and bodies."""

    async def ask(word: str) -> None:
        client, path = service.client, f"/dialogues/{word}/utterances"
        await service.say(word, word, word)
        await service.say(word, word, word, label_space=word)
        await service.forecast(word, speaker=word, label_space=word)
        await client.get(f"/dialogues/{word}", headers={"X-Request-Id": word, "Accept": word})
        await client.put(f"{path}/0/label", json={"label": word, "label_space": word})
        await client.put(f"{path}/0/label", json={"label": "joyful"})
        await client.get(f"/{word}", params={word: word})
        await client.get(f"/{word}/{word}")
        await client.request(word.upper(), path)
        await client.delete(f"/dialogues/{word}", headers={"Idempotency-Key": word})
        await client.get(f"/jobs/{word}")
        await client.delete(f"/demonstrations/{word}")
        utterances = [{"speaker": word, "text": word}]
        for space in ("unified", word):
            dialogues = [{"id": word, "utterances": utterances}]
            await client.post("/batch", json={"dialogues": dialogues, "label_space": space})
        await client.post("/demonstrations", json={word: word})

    await ask("call")
    await series(service)  # which is a request too
    before = await series(service)
    for n in range(10):
        await ask(f"call{n}")
    service.speak_for("another")
    await ask("others")

    assert await series(service) == before


async def test_the_page_is_as_prometheus_would_have_it(service: "Service") -> None:
    """Its own tool finds no fault with our names and the library's; vLLM's have colons."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    await service.say("call-42", "Ann", "We won!")
    page = (await service.client.get("/metrics")).text
    ours = "".join(line for line in page.splitlines(keepends=True) if "vllm:" not in line)
    assert ours.count("erc_") > 400

    tool = await asyncio.create_subprocess_exec(
        promtool, "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    stdout, _ = await tool.communicate(ours.encode())

    assert (tool.returncode, stdout) == (0, b"")


async def test_openmetrics_is_answered_to_whoever_accepts_it(service: "Service") -> None:
    """With all families of the usual format, each once, and its end."""
    await service.say("call-42", "Ann", "We won!")

    answer = await service.client.get(
        "/metrics",
        headers={"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"},
    )

    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("\n# EOF\n")
    assert answer.text.count("# EOF") == 1
    read = openmetrics_families(answer.text)  # type: ignore[no-untyped-call]
    families = [family.name for family in read]
    assert len(set(families)) == len(families)
    assert {"erc_requests", "erc_stage_seconds", "process_cpu_seconds"} <= set(families)


async def series(service: "Service") -> set[tuple[str, Labels]]:
    """Ours; Python's change with what it does."""
    samples: dict[tuple[str, Labels], Any] = await numbers(service)
    return {each for each in samples if each[0].startswith("erc_")}
