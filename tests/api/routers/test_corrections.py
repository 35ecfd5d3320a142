"""What people say that utterances carry, through HTTP."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.admission.deadline import RequestDeadline
from service.api.schemas.dialogues import CorrectedOut, TimelineOut
from service.errors import ClientLeft, DemonstrationsUnavailable
from service.settings import Limits
from tests.api.conftest import documented

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

PATH = "/dialogues/call-42/utterances/0/label"
JOY = {"label": "joy", "label_space": "meld"}


async def correct(
    service: "Service",
    body: dict[str, str] = JOY,
    path: str = PATH,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    return await service.client.put(path, json=body, headers=headers)


async def demonstrations(service: "Service") -> list[tuple[str, str]]:
    answer = await service.client.get("/demonstrations")
    return [(each["label"], each["text"]) for each in answer.json()["demonstrations"]]


async def corrected(service: "Service", index: int = 0) -> Any:
    return (await service.timeline("call-42"))["utterances"][index]["correction"]


async def test_a_correction_stands_beside_the_prediction(service: "Service") -> None:
    """The prediction stays; names are taken in any case and stored in lower case."""
    utterance = (await service.say("call-42", "Ann", "We won!", label_space="meld")).json()

    answer = await correct(service, {"label": "JOY", "label_space": "Meld"})

    assert answer.status_code == 200
    body = answer.json()
    assert documented(CorrectedOut, body) == body
    assert (body["dialogue_id"], body["index"], body["degraded"]) == ("call-42", 0, [])
    timeline = await service.timeline("call-42")
    assert documented(TimelineOut, timeline) == timeline
    (entry,) = timeline["utterances"]
    assert entry["emotion"] == utterance["emotion"]
    assert entry["correction"] == JOY | {"unified": "joyful", "created_at": body["created_at"]}


async def test_the_next_utterance_is_shown_the_correction(service: "Service") -> None:
    """As a demonstration of its tenant's, and of nobody else's."""
    await service.say("call-42", "Ann", "We won!", label_space="meld")
    await correct(service)

    answer = await service.say("another", "Bo", "We won!", label_space="meld")

    (shown,) = answer.json()["demonstrations"]
    assert (shown["label"], shown["text"]) == ("joy", "We won!")
    service.speak_for("two")
    answer = await service.say("another", "Bo", "We won!", label_space="meld")
    assert answer.json()["demonstrations"] == []


async def test_a_later_correction_replaces_the_one_before(service: "Service") -> None:
    """In the timeline and among the demonstrations; said again, it changes nothing."""
    await service.say("call-42", "Ann", "We won!")
    await correct(service)
    changed = await correct(service, {"label": "surprise", "label_space": "meld"})

    again = await correct(service, {"label": "surprise", "label_space": "meld"})

    assert (await corrected(service))["label"] == "surprise"
    assert await demonstrations(service) == [("surprise", "We won!")]
    assert again.json() == changed.json()
    assert again.headers["etag"] == changed.headers["etag"]


async def test_a_correction_taken_back_is_gone(service: "Service", problem: Any) -> None:
    """With its demonstration; taking it back again finds nothing."""
    await service.say("call-42", "Ann", "We won!")
    await correct(service)

    answer = await service.client.delete(PATH)

    assert (answer.status_code, answer.content) == (204, b"")
    assert await corrected(service) is None
    assert await demonstrations(service) == []
    assert problem(await service.client.delete(PATH)) == (404, "correction-not-found")


async def test_a_correction_s_demonstration_goes_with_it_alone(
    service: "Service", problem: Any
) -> None:
    """Or a correction would stand in the timeline and have no part in any answer."""
    await service.say("call-42", "Ann", "We won!", label_space="meld")
    await correct(service)
    (listed,) = (await service.client.get("/demonstrations")).json()["demonstrations"]

    deleted = await service.client.delete(f"/demonstrations/{listed['id']}")
    replaced = await service.client.post("/demonstrations", json={"demonstrations": [listed]})

    assert problem(deleted) == problem(replaced) == (409, "demonstration-of-correction")
    assert replaced.json()["detail"].startswith("demonstration 0: ")
    assert await demonstrations(service) == [("joy", "We won!")]


async def test_a_correction_taken_back_under_a_key_is_taken_back_once(service: "Service") -> None:
    """Sent again, it is answered as before."""
    await service.say("call-42", "Ann", "We won!")
    await correct(service)

    answers = [
        await service.client.delete(PATH, headers={"Idempotency-Key": "k-1"}) for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert answers[1].headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/dialogues/nobody/utterances/0/label", JOY, (404, "dialogue-not-found")),
        ("/dialogues/call-42/utterances/1/label", JOY, (404, "utterance-not-found")),
        ("/dialogues/call-42/utterances/-1/label", JOY, (422, "invalid-request")),
        ("/dialogues/call-42/utterances/x/label", JOY, (422, "invalid-request")),
        (f"/dialogues/call-42/utterances/{2**31}/label", JOY, (422, "invalid-request")),
        (PATH, {"label": "joyful", "label_space": "meld"}, (422, "invalid-label")),
        (PATH, {"label": "joy", "label_space": "moods"}, (422, "unsupported-label-space")),
        (PATH, {"label_space": "meld"}, (422, "invalid-request")),
        (PATH, {"label": "", "label_space": "meld"}, (422, "invalid-request")),
    ],
)
async def test_what_cannot_be_corrected_so_is_refused(
    service: "Service", problem: Any, path: str, body: Any, expected: tuple[int, str]
) -> None:
    """Nothing is stored and nothing is shown to the model."""
    await service.say("call-42", "Ann", "We won!")

    assert problem(await correct(service, body, path)) == expected
    assert await corrected(service) is None
    assert await demonstrations(service) == []


async def test_a_correction_is_a_write_to_the_dialogue(service: "Service", problem: Any) -> None:
    """It makes another tag, and is refused by those who saw another."""
    first = (await service.say("call-42", "Ann", "We won!")).headers["etag"]
    second = (await correct(service, headers={"If-Match": first})).headers["etag"]

    refused = await correct(
        service, {"label": "anger", "label_space": "meld"}, headers={"If-Match": first}
    )

    assert problem(refused) == (412, "dialogue-changed")
    assert (await service.client.get("/dialogues/call-42")).headers["etag"] == second != first
    answer = await service.client.delete(PATH, headers={"If-Match": second})
    assert answer.headers["etag"] not in (first, second)


async def test_an_erased_dialogue_takes_the_demonstrations_made_of_it(service: "Service") -> None:
    """Others stay."""
    await service.add_demonstration(label_space="meld", label="joy", text="Hurray!")
    for n in range(3):
        await service.say("call-42", "Ann", f"line {n}")
        await correct(service, path=f"/dialogues/call-42/utterances/{n}/label")
    assert len(await demonstrations(service)) == 4

    await service.client.delete("/dialogues/call-42")

    assert await demonstrations(service) == [("joy", "Hurray!")]


async def test_an_erased_dialogue_takes_what_another_process_has_left(service: "Service") -> None:
    """That took a correction back, and ended before its demonstration went."""
    await service.say("call-42", "Ann", "line 0")
    await correct(service)
    await service.sessions.corrections.remove("default", "call-42", 0)
    assert await demonstrations(service) == [("joy", "line 0")]

    await service.client.delete("/dialogues/call-42")

    assert await demonstrations(service) == []


@pytest.mark.parametrize("wait", ["correct", "take_back", "erase"])
async def test_what_is_stored_is_told_though_the_client_has_left(
    service: "Service", wait: str
) -> None:
    """Else a demonstration of what has been erased would be shown until somebody looks."""
    await service.say("call-42", "Ann", "line 0")
    if wait != "correct":
        await correct(service)
    deadline, corrector = RequestDeadline(30), service.services.corrector
    gone = ClientLeft("gone")
    requests: dict[str, Coroutine[Any, Any, Any]] = {
        "correct": corrector.correct("default", "call-42", 0, "meld", "joy"),
        "take_back": corrector.take_back("default", "call-42", 0),
        "erase": corrector.erase("default", "call-42"),
    }

    async def request() -> None:
        async with deadline:
            await requests.pop(wait)
            await asyncio.sleep(30)

    followers = service.sessions.followers
    with (
        followers.follow("default", "call-42", lambda: deadline.end(gone)),
        pytest.raises(ClientLeft),
    ):
        await request()
    for other in requests.values():
        other.close()

    assert await demonstrations(service) == ([("joy", "line 0")] if wait == "correct" else [])
    assert await service.sessions.deliveries.count() == 0


async def test_a_dialogue_nobody_wrote_to_for_long_is_erased(
    service: "Service", problem: Any
) -> None:
    """As if somebody had erased it: what belongs to it goes too. A correction is a write."""
    await service.say("call-42", "Ann", "We won!")
    await correct(service)
    await service.keep_house(dialogue_retention_s=60)
    assert await demonstrations(service) == [("joy", "We won!")]

    await service.keep_house(dialogue_retention_s=1e-6)

    assert problem(await service.client.get("/dialogues/call-42")) == (404, "dialogue-not-found")
    assert await demonstrations(service) == []
    assert (await service.say("call-42", "Ann", "Anew.")).json()["index"] == 0


async def test_dialogues_are_kept_for_ever_unless_the_settings_say_how_long(
    service: "Service",
) -> None:
    """Answers to keys are not."""
    headers = {"Idempotency-Key": "k-1"}
    utterance = {"speaker": "Ann", "text": "We won!"}
    path = "/dialogues/call-42/utterances"
    await service.client.post(path, json=utterance, headers=headers)

    await service.keep_house(idempotency_retention_s=1e-6)

    assert len((await service.timeline("call-42"))["utterances"]) == 1
    assert (await service.client.post(path, json=utterance, headers=headers)).json()["index"] == 1


async def test_while_the_demonstrations_are_away_a_correction_is_stored_and_told_later(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was taken back, replaced or erased meanwhile: they get what holds then."""

    async def away(*_: Any, **__: Any) -> None:
        raise DemonstrationsUnavailable("the demonstration server does not answer")

    for n in range(4):
        await service.say("call-42", "Ann", f"line {n}")
    await service.say("gone", "Ann", "Forget this.")
    label = "/dialogues/call-42/utterances/{}/label".format
    await correct(service, path=label(3))
    await correct(service, path="/dialogues/gone/utterances/0/label")
    with monkeypatch.context() as patch:
        patch.setattr(service.store, "add_correction", away)
        patch.setattr(service.store, "delete", away)
        for n in (0, 1, 2):
            answer = await correct(service, path=label(n))
            assert (answer.status_code, answer.json()["degraded"]) == (200, ["demonstrations"])
        await correct(service, {"label": "fear", "label_space": "meld"}, label(1))
        assert (await service.client.delete(label(2))).status_code == 204
        assert (await service.client.delete(label(3))).status_code == 204
        assert (await service.client.delete("/dialogues/gone")).status_code == 204
        await service.keep_house()
    assert [(await corrected(service, n) or {}).get("label") for n in range(4)] == [
        "joy",
        "fear",
        None,
        None,
    ]

    await service.keep_house()

    assert sorted(await demonstrations(service)) == [("fear", "line 1"), ("joy", "line 0")]


async def test_what_was_not_delivered_is_delivered_after_a_restart(
    start_service: "StartService", tmp_path: Path
) -> None:
    """As after a crash between the database and the demonstrations."""
    async with start_service(tmp_path, Limits()) as service:
        await service.say("call-42", "Ann", "We won!")
        await service.lose_demonstrations()
        assert (await correct(service)).json()["degraded"] == ["demonstrations"]

    async with start_service(tmp_path, Limits()) as service:
        assert await demonstrations(service) == []
        await service.keep_house()
        assert await demonstrations(service) == [("joy", "We won!")]
