"""What an operator's machinery asks, and which labels there are."""

from typing import TYPE_CHECKING, Any

import pytest

from service.api.schemas.label_spaces import LabelSpacesOut
from service.api.schemas.operations import Alive
from service.version import VERSION
from tests.api.numbers import at, numbers

if TYPE_CHECKING:
    from tests.api.conftest import Service


async def test_alive_whatever_else_is_lost(service: "Service") -> None:
    """A restart would not bring back what others have lost."""
    await service.lose_demonstrations()
    await service.lose_database()

    answer = await service.client.get("/livez")

    assert answer.status_code == 200
    assert Alive.model_validate(answer.json(), strict=True).status == "alive"


async def test_ready_while_every_part_answers(service: "Service") -> None:
    """Each part is asked and named."""
    answer = await service.client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "checks": {"engine": "ok", "database": "ok", "demonstrations": "ok"},
        "degraded": [],
    }


@pytest.mark.parametrize("part", ["engine", "database"])
async def test_not_ready_while_a_part_does_not_answer(
    service: "Service", problem: Any, part: str
) -> None:
    """The answer names the part and says that the others are well."""
    match part:
        case "engine":
            service.engine.goes_away()
        case "database":
            await service.lose_database()

    answer = await service.client.get("/readyz")

    assert problem(answer) == (503, "not-ready")
    assert answer.json()["detail"] == part
    checks = answer.json()["checks"]
    assert checks.pop(part) != "ok"
    assert list(checks.values()) == ["ok", "ok"]


async def test_ready_without_demonstrations_which_is_said(service: "Service") -> None:
    """Answers go on without them."""
    await service.lose_demonstrations()

    answer = await service.client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["degraded"] == ["demonstrations"]
    assert answer.json()["checks"]["demonstrations"] != "ok"


async def test_not_ready_once_the_service_is_about_to_end(service: "Service", problem: Any) -> None:
    """Though every part answers."""
    service.door.draining = True

    answer = await service.client.get("/readyz")

    assert problem(answer) == (503, "not-ready")
    assert set(answer.json()["checks"].values()) == {"ok"}


async def test_not_alive_once_the_engine_is_lost(service: "Service", problem: Any) -> None:
    """Only a new process brings it back; whoever runs the service is told why."""
    service.engine.goes_away()
    told: list[str] = []
    await service.watched.watch(told.append)

    answer = await service.client.get("/livez")

    assert problem(answer) == (503, "not-alive")
    assert told == ["the label engine has died"]


async def test_every_label_space_is_listed_with_its_labels(service: "Service") -> None:
    """Those that the bundle was trained on are available."""
    answer = await service.client.get("/label-spaces")

    body = answer.json()
    assert LabelSpacesOut.model_validate(body, strict=True).model_dump() == body
    spaces = {space["name"]: space for space in body["label_spaces"]}
    assert {name for name, space in spaces.items() if space["available"]} == {
        "meld",
        "emorynlp",
        "unified",
        "meld-sentiment",
        "emorynlp-sentiment",
        "sentiment",
    }
    assert "iemocap" in spaces
    assert spaces["meld"]["labels"][4] == {
        "name": "joy",
        "verbalizer": "joyful",
        "unified": "joyful",
        "of": None,
        "sentence": None,
        "examples": None,
    }


async def test_requests_are_counted_by_the_route_and_not_by_what_clients_write(
    service: "Service",
) -> None:
    """Unknown paths and methods share one label each."""
    await service.say("call-42", "Ann", "Hello?")
    await service.say("call-43", "Ann", "Hello?")
    await service.client.get("/dialogues/nobody")
    await service.client.get("/nothing/here")
    await service.client.request("BREW", "/nothing/there")
    await service.client.request("BREW", "/batch")

    samples = await numbers(service)

    counted = {
        tuple(dict(labels)[key] for key in ("method", "route", "status")): count
        for (name, labels), count in samples.items()
        if name == "erc_requests_total"
    }
    assert counted == {
        ("POST", "/dialogues/{dialogue_id}/utterances", "201"): 2,
        ("GET", "/dialogues/{dialogue_id}", "404"): 1,
        ("GET", "unmatched", "404"): 1,
        ("other", "unmatched", "404"): 1,
        ("other", "/batch", "405"): 1,
    }
    seconds = at("erc_request_seconds_count", route="/dialogues/{dialogue_id}/utterances")
    assert samples[seconds] == 2


async def test_a_request_that_fails_is_counted_as_failed(service: "Service") -> None:
    """With the status that the client saw."""
    service.engine.failure = RuntimeError("a bug")
    await service.say("call-42", "Ann", "Hello?")

    route = "/dialogues/{dialogue_id}/utterances"
    count = at("erc_requests_total", method="POST", route=route, status="500")
    assert (await numbers(service))[count] == 1


async def test_answered_utterances_are_counted_by_label(service: "Service") -> None:
    """Turns and batches alike; an utterance that was refused is none."""
    service.engine.choice = 4
    await service.say("call-42", "Ann", "We won!", label_space="meld")
    await service.say("call-42", "Ann", "", label_space="meld")
    await service.lose_demonstrations()
    utterances = [{"speaker": "Ann", "text": "We won!"}] * 2
    await service.client.post(
        "/batch", json={"label_space": "meld", "dialogues": [{"id": "a", "utterances": utterances}]}
    )

    samples = await numbers(service)

    assert samples[at("erc_predictions_total", label_space="meld", label="joy")] == 3
    assert samples[at("erc_degraded_total", part="demonstrations")] == 2


async def test_answered_forecasts_are_counted_by_label_and_not_as_utterances(
    service: "Service",
) -> None:
    """One that was refused is none."""
    await service.say("call-42", "Ann", "We won!", label_space="meld")
    service.engine.choice = 4
    await service.forecast("call-42", speaker="Ann", label_space="meld")
    await service.forecast("nobody", speaker="Ann", label_space="meld")

    samples = await numbers(service)

    assert samples[at("erc_forecasts_total", label_space="meld", label="joy")] == 1
    assert samples[at("erc_predictions_total", label_space="meld", label="neutral")] == 1
    assert samples[at("erc_predictions_total", label_space="meld", label="joy")] == 0
    route = "/dialogues/{dialogue_id}/forecast"
    assert samples[at("erc_requests_total", method="GET", route=route, status="200")] == 1


async def test_prompt_tokens_are_counted_with_those_that_were_cached(service: "Service") -> None:
    """As the engine was asked with, and as it says."""
    await service.say("call-42", "Ann", "We won!")
    await service.say("call-42", "Bo", "Great.")

    samples = await numbers(service)

    lengths = [len(prompt) for prompt in service.engine.prompts]
    assert samples[at("erc_prompt_tokens_total")] == sum(lengths)
    assert samples[at("erc_cached_tokens_total")] == sum(length // 2 for length in lengths)


async def test_the_bundle_that_is_served_is_shown(service: "Service") -> None:
    """So that a change of quality or speed can be laid to a change of bundle or machine."""
    samples = await numbers(service)

    assert samples[at("erc_bundle_info", name="erc-test", version="1", template="v2")] == 1
    assert samples[at("erc_build_info", version=VERSION, dtype="float32")] == 1


async def test_stages_of_every_utterance_are_counted(service: "Service") -> None:
    """Once an utterance: of a turn, which is stored, and of a batch, which stores nothing."""
    await service.say("call-42", "Ann", "We won!")
    utterances = [{"speaker": "Ann", "text": "We won!"}, {"speaker": "Bob", "text": "No way."}]
    await service.client.post("/batch", json={"dialogues": [{"id": "a", "utterances": utterances}]})

    samples = await numbers(service)

    for name in ("admit", "encode", "retrieve", "render", "queue", "decode"):
        assert samples[at("erc_stage_seconds_count", stage=name)] == 3
    assert samples[at("erc_stage_seconds_count", stage="store")] == 1
