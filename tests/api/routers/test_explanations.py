"""Why a stored utterance has its label, through HTTP."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access
from service.api.schemas.dialogues import ExplainedUtterance
from service.decoding.engine import Reading
from service.decoding.tokenizer import Tokenizer
from service.priority import Priority
from service.settings import Limits
from tests.api.conftest import documented
from tests.api.middleware.test_admission import Held
from tests.api.routers.test_own_label_spaces import put

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

JOY, FEAR = 4, 2  # their places among MELD's labels


class Overjoyed:
    """Makes a scripted engine say joy of prompts that have a word, and fear of others."""

    def __init__(self, service: "Service", tokenizer: Tokenizer, word: str) -> None:
        self._engine, self._read = service.engine, service.engine.read
        self._word = tuple(tokenizer.encode(word))
        self.priorities: set[Priority] = set()
        service.engine.read = self.read  # type: ignore[method-assign]  # of this object alone

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        self.priorities.add(priority)
        size = len(self._word)
        has = any(tuple(prompt[n : n + size]) == self._word for n in range(len(prompt) - size + 1))
        reading = await self._read(prompt, candidates, priority, salt=salt)
        scores = list(reading.log_probabilities)
        scores[0], scores[JOY if has else FEAR] = scores[JOY if has else FEAR], scores[0]
        return Reading(tuple(scores), reading.cached_tokens)


async def explain(
    service: "Service", index: int, dialogue_id: str = "call-42", **more: Any
) -> httpx.Response:
    return await service.client.get(
        f"/dialogues/{dialogue_id}/utterances/{index}", params={"explain": "true"}, **more
    )


async def talk(service: "Service", label_space: str = "meld") -> None:
    await service.say("call-42", "Ann", "Did the parcel arrive?", label_space=label_space)
    await service.say("call-42", "Bo", "It was empty.", label_space=label_space)
    await service.say("call-42", "Ann", "That is  wonderful news!", label_space=label_space)


async def test_an_explanation_says_what_each_part_does(
    service: "Service", tokenizer: Tokenizer
) -> None:
    """It has what is documented, and offsets that are those of the text."""
    await service.add_demonstration(id="flat-1", label_space="meld", label="joy", text="The flat!")
    engine = Overjoyed(service, tokenizer, "wonderful")
    await talk(service)

    answer = await explain(service, 2)

    assert answer.status_code == 200
    body = answer.json()
    assert documented(ExplainedUtterance, body) == body
    timeline = await service.timeline("call-42")
    explanation = body.pop("explanation")
    assert body == timeline["utterances"][2]
    assert (explanation["label"], explanation["label_space"]) == ("joy", "meld")
    assert explanation["probability"] == pytest.approx(8 / 9)
    drop = 8 / 9 - 1 / 54
    assert explanation["words"] == [
        {"word": "wonderful", "start": 9, "end": 18, "drop": pytest.approx(drop)},
        {"word": "news!", "start": 19, "end": 24, "drop": pytest.approx(0)},
        {"word": "is", "start": 5, "end": 7, "drop": pytest.approx(0)},
        {"word": "That", "start": 0, "end": 4, "drop": pytest.approx(0)},
    ]
    assert [line["index"] for line in explanation["lines"]] == [1, 0]
    assert explanation["demonstrations"] == [{"id": "flat-1", "drop": pytest.approx(0)}]
    assert (explanation["votes"], explanation["model"]) == (0, body["model"])
    assert Priority.BATCH in engine.priorities


async def test_without_being_asked_nothing_is_explained(service: "Service") -> None:
    """The utterance is that of the timeline, and the model reads nothing."""
    await talk(service)
    before = len(service.engine.prompts)

    answer = await service.client.get("/dialogues/call-42/utterances/1")

    timeline = await service.timeline("call-42")
    assert answer.json() == {**timeline["utterances"][1], "explanation": None}
    assert len(service.engine.prompts) == before


async def test_the_first_prompt_is_the_one_that_was_answered(service: "Service") -> None:
    """With the demonstrations of then, in their order, although there are nearer ones now."""
    for n, text in enumerate(("It was empty, all of it.", "Empty boxes.")):
        await service.add_demonstration(id=f"d{n}", label_space="meld", label="joy", text=text)
    await talk(service)
    answered = service.engine.prompts[1]
    await service.add_demonstration(id="near", label_space="meld", label="joy", text="It was empty")
    before = len(service.engine.prompts)

    body = (await explain(service, 1)).json()

    assert service.engine.prompts[before] == answered
    assert len(service.engine.prompts) == before + 1 + 3 + 1 + 2
    assert {each["id"] for each in body["explanation"]["demonstrations"]} == {"d0", "d1"}


async def test_a_demonstration_that_is_gone_has_no_drop(service: "Service") -> None:
    """Deleted, or while the store does not answer: the rest is explained without it."""
    for n, text in enumerate(("It was empty, all of it.", "Empty boxes.")):
        await service.add_demonstration(id=f"d{n}", label_space="meld", label="joy", text=text)
    await talk(service)
    await service.client.delete("/demonstrations/d0")

    some = (await explain(service, 1)).json()["explanation"]
    await service.lose_demonstrations()
    none = (await explain(service, 1)).json()["explanation"]

    drops = {each["id"]: each["drop"] for each in some["demonstrations"]}
    assert drops == {"d0": None, "d1": pytest.approx(0)}
    assert {each["id"]: each["drop"] for each in none["demonstrations"]} == {"d0": None, "d1": None}
    assert len(none["words"]) == 3


async def test_nothing_is_stored(service: "Service") -> None:
    await talk(service)
    before = await service.timeline("call-42")

    await explain(service, 2)

    assert await service.timeline("call-42") == before


async def test_of_an_answer_with_votes_the_models_own_label_is_explained(
    service: "Service", tokenizer: Tokenizer
) -> None:
    """The share of the votes is told beside it."""
    await talk(service)
    correction = {"label": "sadness", "label_space": "meld"}
    await service.client.put("/dialogues/call-42/utterances/2/label", json=correction)
    Overjoyed(service, tokenizer, "splendid")
    text = "That is splendid news!"
    await service.say("b", "Ann", "Did the parcel arrive?", label_space="meld")
    await service.say("b", "Bo", "It was empty.", label_space="meld")
    posted = (await service.say("b", "Ann", text, label_space="meld")).json()

    explanation = (await explain(service, 2, "b")).json()["explanation"]

    assert (posted["emotion"]["label"], posted["model_alone"]["label"]) == ("sadness", "joy")
    assert explanation["label"] == "joy"
    assert explanation["votes"] == pytest.approx(sum(d["weight"] for d in posted["demonstrations"]))
    assert 0.5 < explanation["votes"] < 1
    assert explanation["words"][0]["word"] == "splendid"
    corrected = (await explain(service, 2)).json()
    assert corrected["correction"]["label"] == "sadness"
    assert corrected["explanation"]["label"] == corrected["emotion"]["label"]
    assert corrected["explanation"]["votes"] == 0


async def test_sums_are_explained_as_sums(service: "Service", tokenizer: Tokenizer) -> None:
    Overjoyed(service, tokenizer, "wonderful")
    await talk(service, "meld-sentiment")

    body = (await explain(service, 2)).json()

    explanation = body["explanation"]
    assert (explanation["label"], explanation["label_space"]) == ("positive", "meld-sentiment")
    assert explanation["probability"] == pytest.approx(body["emotion"]["confidence"])
    assert explanation["words"][0]["word"] == "wonderful"


async def test_labels_of_ones_own_are_explained_by_the_words_of_their_sentence(
    service: "Service",
) -> None:
    """The model says the same of everything here: what differs is the vector of the line."""
    await put(service)
    await service.say("a", "Ann", "Well, thank you, really!", label_space="callers")

    body = (await explain(service, 0, "a")).json()

    explanation = body["explanation"]
    assert (explanation["label"], explanation["label_space"]) == ("thanks", "callers")
    assert explanation["probability"] == pytest.approx(body["emotion"]["confidence"])
    assert explanation["words"][0]["word"] in ("thank", "you,")
    assert explanation["words"][0]["drop"] > 0.02


async def test_a_label_space_that_is_gone_is_a_problem(service: "Service", problem: Any) -> None:
    await put(service)
    await service.say("a", "Ann", "Thank you!", label_space="callers")
    await service.client.delete("/label-spaces/callers")

    assert problem(await explain(service, 0, "a")) == (422, "unsupported-label-space")


@pytest.mark.parametrize("query", [{}, {"explain": "true"}])
async def test_what_is_not_there_is_not_found(
    service: "Service", problem: Any, query: dict[str, str]
) -> None:
    await talk(service)
    get = service.client.get

    answers = [
        await get(f"/dialogues/{path}", params=query)
        for path in ("call-42/utterances/3", "nobody/utterances/0", "call-42/utterances/-1")
    ]

    assert [problem(answer) for answer in answers] == [
        (404, "utterance-not-found"),
        (404, "dialogue-not-found"),
        (422, "invalid-request"),
    ]
    service.speak_for("somebody-else")
    other = await get("/dialogues/call-42/utterances/0", params=query)
    assert problem(other) == (404, "dialogue-not-found")


async def test_an_explanation_has_the_deadline_of_its_request(
    service: "Service", problem: Any
) -> None:
    """It is admitted as a batch is, and nothing of it goes on."""
    await talk(service)
    held = Held(service)
    request = asyncio.create_task(explain(service, 2, headers={"prefer": "wait=1"}))
    await held.reads(service.places.most(Priority.BATCH))
    assert service.door.under_way(Priority.BATCH) == 1
    assert service.door.under_way(Priority.INTERACTIVE) == 0

    answer = await request

    assert problem(answer) == (504, "deadline-passed")
    assert held.reading == 0
    assert service.places.taken(Priority.BATCH) == service.places.waiting(Priority.BATCH) == 0


async def test_an_explanation_counts_as_three_utterances(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Reading an utterance counts as none."""
    secret, file = new_key(), tmp_path / "keys.toml"
    file.write_text(
        f"""
[[keys]]
id = "one"
tenant = "acme"
scopes = ["read", "write"]
sha256 = "{digest(secret).hex()}"
quota = {{utterances_per_min = 4}}
"""
    )
    headers = {"Authorization": f"Bearer {secret}"}
    async with start_service(tmp_path, Limits(), access=Access(Keyring(file))) as service:
        said = {"speaker": "Ann", "text": "We won!"}
        path = "/dialogues/call-42/utterances"
        await service.client.post(path, json=said, headers=headers)

        answer = await explain(service, 0, headers=headers)
        plain = await service.client.get(f"{path}/0", headers=headers)
        refused = await explain(service, 0, headers=headers)

    assert (answer.status_code, plain.status_code) == (200, 200)
    assert problem(refused) == (429, "quota-exceeded")
