"""Utterances in languages that the bundle was not trained on, through HTTP."""

from typing import TYPE_CHECKING

from tests.api.numbers import at, numbers

if TYPE_CHECKING:
    from tests.api.conftest import Service

GERMAN = "Das ist doch nicht dein Ernst, oder?"
ENGLISH = "You cannot be serious about that, can you?"


async def test_the_languages_of_the_bundle_are_told(service: "Service") -> None:
    """Beside the label spaces it answers in."""
    answer = await service.client.get("/label-spaces")

    assert answer.json()["languages"] == ["en"]


async def test_an_utterance_in_another_language_is_answered_and_marked(
    service: "Service",
) -> None:
    """When it is posted and when it is read again; its neighbours are not."""
    posted = [await service.say("call-42", "Ann", text) for text in (ENGLISH, GERMAN, ENGLISH)]
    timeline = await service.client.get("/dialogues/call-42")

    marks = [[], ["language"], []]
    assert [answer.status_code for answer in posted] == [201] * 3
    assert [answer.json()["degraded"] for answer in posted] == marks
    assert [utterance["degraded"] for utterance in timeline.json()["utterances"]] == marks


async def test_utterances_of_batches_are_marked_and_counted(service: "Service") -> None:
    """Each by itself."""
    utterances = [
        {"speaker": "Ann", "text": text} for text in (GERMAN, "Я так ждала тебя", ENGLISH)
    ]
    answer = await service.client.post(
        "/batch", json={"dialogues": [{"id": "a", "utterances": utterances}]}
    )

    (result,) = answer.json()["results"]
    assert [u["degraded"] for u in result["utterances"]] == [["language"], ["language"], []]
    assert (await numbers(service))[at("erc_degraded_total", part="language")] == 2


async def test_missing_demonstrations_are_told_beside_the_language(service: "Service") -> None:
    await service.lose_demonstrations()

    answer = await service.say("call-42", "Ann", GERMAN)

    assert answer.json()["degraded"] == ["demonstrations", "language"]
