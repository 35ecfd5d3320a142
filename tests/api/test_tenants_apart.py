"""That nobody is answered faster, or otherwise, because another tenant has said the same."""

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Service

SAID = {"speaker": "Ann", "text": "We won!"}
DIALOGUE: dict[str, Any] = {"id": "d1", "utterances": [SAID, {"speaker": "Bob", "text": "No."}]}


async def say(service: "Service") -> int:
    return (await service.say("call-42", label_space="meld", **SAID)).status_code


async def forecast(service: "Service") -> int:
    await service.say("call-42", **SAID)
    return (await service.forecast("call-42", speaker="Ann")).status_code


async def batch(service: "Service") -> int:
    body = {"label_space": "meld", "dialogues": [DIALOGUE]}
    return (await service.client.post("/batch", json=body)).status_code


async def lines(service: "Service") -> int:
    answer = await service.client.post(
        "/batch?label_space=meld",
        content=json.dumps(DIALOGUE),
        headers={"content-type": "application/x-ndjson"},
    )
    return answer.status_code


async def transcript(service: "Service") -> int:
    answer = await service.client.post("/transcripts?label_space=meld", json=DIALOGUE)
    return answer.status_code


@pytest.mark.parametrize("ask", [say, forecast, batch, lines, transcript])
async def test_every_prompt_is_cached_for_its_tenant_alone(
    service: "Service", ask: Callable[["Service"], Awaitable[int]]
) -> None:
    """In vLLM, whose cache keeps prompts with another salt apart."""
    for tenant in ("one", "two"):
        service.engine.salts.clear()
        service.speak_for(tenant)

        assert await ask(service) in (200, 201, 202)

        assert set(service.engine.salts) == {tenant}


async def test_a_jobs_prompts_are_cached_for_its_tenant_alone(service: "Service") -> None:
    """Here that of whoever needs no key."""
    body = {"label_space": "meld", "dialogues": [DIALOGUE]}

    await service.client.post("/batch", json=body, headers={"prefer": "respond-async"})
    await service.work()

    assert service.engine.salts == ["default", "default"]


async def test_turns_and_forecasts_of_a_dialogue_are_read_by_one_server(
    service: "Service",
) -> None:
    """Of several, which tell dialogues apart by tenant too."""
    for tenant in ("one", "two"):
        service.speak_for(tenant)
        await say(service)
        await forecast(service)

    assert service.engine.dialogues == 3 * [("one", "call-42")] + 3 * [("two", "call-42")]
