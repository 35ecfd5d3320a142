"""The retrieval base, through HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from service.api.schemas.demonstrations import DemonstrationPage, DemonstrationsOut
from service.conversation.dialogue import Demonstration
from service.settings import Limits

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

TEAM = {"id": "team", "label_space": "meld", "label": "joy", "text": "Our team won!"}
LATE = {"id": "late", "label_space": "emorynlp", "label": "mad", "text": "Late again."}


async def add(service: "Service", *demonstrations: dict[str, str]) -> httpx.Response:
    return await service.client.post(
        "/demonstrations", json={"demonstrations": list(demonstrations)}
    )


async def listed(service: "Service", **query: Any) -> Any:
    answer = await service.client.get("/demonstrations", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_was_added_is_answered_and_can_be_read(service: "Service") -> None:
    """The answer gives the demonstrations as they are stored, in the order sent."""
    answer = await add(service, TEAM, LATE)

    assert answer.status_code == 201
    assert answer.json() == {"demonstrations": [TEAM, LATE]}
    DemonstrationsOut.model_validate(answer.json(), strict=True)
    assert (await service.client.get("/demonstrations/late")).json() == LATE


async def test_label_and_label_space_are_stored_in_lower_case(service: "Service") -> None:
    """They are told apart without regard to case."""
    answer = await add(service, TEAM | {"label_space": "MELD", "label": "Joy"})

    assert answer.json() == {"demonstrations": [TEAM]}
    assert (await service.client.get("/demonstrations/team")).json() == TEAM


async def test_a_demonstration_may_be_of_a_label_space_that_the_bundle_does_not_know(
    service: "Service",
) -> None:
    """The next bundle may know it."""
    happy = {"id": "h", "label_space": "iemocap", "label": "happy", "text": "Look at that!"}

    assert (await add(service, happy)).status_code == 201
    assert (await listed(service, label_space="iemocap"))["demonstrations"] == [happy]


async def test_the_same_demonstration_sent_twice_without_an_id_is_there_once(
    service: "Service",
) -> None:
    """Its id is made from what it says; another label makes another demonstration."""
    nameless = {key: value for key, value in TEAM.items() if key != "id"}

    first = await add(service, nameless, nameless)
    again = await add(service, nameless | {"label": "JOY"})
    other = await add(service, nameless | {"label": "surprise"})

    ids = [each["id"] for a in (first, again, other) for each in a.json()["demonstrations"]]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert len((await listed(service))["demonstrations"]) == 2


async def test_a_demonstration_replaces_the_one_with_its_id(service: "Service") -> None:
    """So a label or a text can be mended."""
    await add(service, TEAM)
    await add(service, TEAM | {"label": "surprise"})

    assert (await listed(service))["demonstrations"] == [TEAM | {"label": "surprise"}]


async def test_pages_visit_each_demonstration_once(service: "Service") -> None:
    """`next` leads from page to page and is null on the last."""
    sent = [TEAM | {"id": f"row-{n}"} for n in range(45)]
    assert (await add(service, *sent)).status_code == 201

    received: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = await listed(service, limit=20, **after)
        assert DemonstrationPage.model_validate(page).model_dump() == page
        received += page["demonstrations"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}

    assert sorted(received, key=lambda each: sent.index(each)) == sent


async def test_a_listing_is_of_one_label_space_or_of_all(service: "Service") -> None:
    """The name is taken in any case."""
    await add(service, TEAM, LATE)

    assert (await listed(service, label_space="EmoryNLP"))["demonstrations"] == [LATE]
    assert len((await listed(service))["demonstrations"]) == 2


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "1" * 5000}, "limit"),
        ({"label_space": ""}, "label_space"),
        ({"labelspace": "meld"}, "labelspace"),
    ],
)
async def test_a_listing_asked_for_wrongly_is_refused(
    service: "Service", problem: Any, query: dict[str, Any], parameter: str
) -> None:
    """The answer names the parameter; a misspelt one is not passed over."""
    answer = await service.client.get("/demonstrations", params=query)

    assert problem(answer) == (422, "invalid-request")
    assert [fault["parameter"] for fault in answer.json()["errors"]] == [parameter]


async def test_a_listing_of_an_unknown_label_space_is_refused(
    service: "Service", problem: Any
) -> None:
    """It is no empty list: the name is wrong."""
    answer = await service.client.get("/demonstrations", params={"label_space": "nonsense"})

    assert problem(answer) == (422, "unsupported-label-space")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"label": "joyful"}, "invalid-label"),
        ({"label": "\N{FULLWIDTH LATIN SMALL LETTER J}oy"}, "invalid-label"),
        ({"label_space": "nonsense"}, "unsupported-label-space"),
    ],
)
async def test_a_label_must_be_one_of_its_label_space(
    service: "Service", problem: Any, change: dict[str, str], name: str
) -> None:
    """The answer says which demonstration is meant, and nothing is added."""
    answer = await add(service, LATE, TEAM | change)

    assert problem(answer) == (422, name)
    assert answer.json()["detail"].startswith("demonstration 1: ")
    assert (await listed(service))["demonstrations"] == []


async def test_two_demonstrations_with_one_id_are_refused(service: "Service", problem: Any) -> None:
    """Only one of them could be kept."""
    answer = await add(service, TEAM, LATE, LATE | {"id": "team"})

    assert problem(answer) == (422, "invalid-request")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/demonstrations/2/id"]


async def test_demonstrations_beyond_a_limit_are_refused(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """As many as the utterances of a batch, each as long as an utterance."""
    async with start_service(tmp_path, Limits(text_characters=20, batch_utterances=2)) as service:
        within = await add(service, TEAM | {"text": "f" * 20}, LATE)
        too_many = await add(service, TEAM, LATE, LATE | {"id": "third"})
        too_long = await add(service, TEAM, LATE | {"text": "f" * 21})

        assert within.status_code == 201
        assert problem(too_many) == problem(too_long) == (422, "invalid-request")
        assert too_many.json()["errors"][0]["pointer"] == "/demonstrations"
        assert too_long.json()["errors"][0]["pointer"] == "/demonstrations/1/text"


async def test_a_deleted_demonstration_is_gone(service: "Service", problem: Any) -> None:
    """Neither read nor listed nor shown to the model again."""
    await add(service, TEAM)

    deleted = await service.client.delete("/demonstrations/team")

    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE"):
        answer = await service.client.request(method, "/demonstrations/team")
        assert problem(answer) == (404, "demonstration-not-found")
    assert (await listed(service))["demonstrations"] == []
    answer = await service.say("call-42", "Ann", "Our team won!", label_space="meld")
    assert answer.json()["demonstrations"] == []


async def test_without_the_store_every_call_of_demonstrations_is_refused(
    service: "Service", problem: Any
) -> None:
    """A store that does not answer is named as the cause."""
    await service.lose_demonstrations()

    answers = [
        await add(service, TEAM),
        await service.client.get("/demonstrations"),
        await service.client.get("/demonstrations/team"),
        await service.client.delete("/demonstrations/team"),
    ]

    assert {problem(answer) for answer in answers} == {(503, "demonstrations-unavailable")}


async def test_a_tenant_sees_and_is_shown_its_own_demonstrations_and_the_shared_ones(
    service: "Service", problem: Any
) -> None:
    """What another has added is neither listed, nor read, nor deleted, nor in any prompt."""
    await service.store.add(
        [Demonstration("all", "meld", "joy", "We won the cup!")],
        np.stack([await service.encoder.encode("We won the cup!")]),
    )
    service.speak_for("one")
    await add(service, TEAM)

    service.speak_for("two")

    assert [each["id"] for each in (await listed(service))["demonstrations"]] == ["all"]
    for method in ("GET", "DELETE"):
        answer = await service.client.request(method, "/demonstrations/team")
        assert problem(answer) == (404, "demonstration-not-found")
    answer = await service.say("call-42", "Ann", "Our team won!", label_space="meld")
    assert [each["id"] for each in answer.json()["demonstrations"]] == ["all"]
    service.speak_for("one")
    answer = await service.say("call-42", "Ann", "Our team won!", label_space="meld")
    assert answer.json()["index"] == 0
    assert [each["id"] for each in answer.json()["demonstrations"]] == ["team", "all"]


async def test_a_shared_demonstration_is_not_deleted_by_the_way(
    service: "Service", problem: Any
) -> None:
    """It would be gone for everybody: whoever means that says so."""
    await service.store.add(
        [Demonstration("all", "meld", "joy", "We won the cup!")],
        np.stack([await service.encoder.encode("We won the cup!")]),
    )

    answer = await service.client.delete("/demonstrations/all")

    assert problem(answer) == (403, "demonstration-shared")
    assert (await service.client.get("/demonstrations/all")).status_code == 200
