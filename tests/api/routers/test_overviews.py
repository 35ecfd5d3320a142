"""Lists of dialogues, and summaries, as clients meet them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import load_label_spaces
from service.conversation.valence import UNIT, valences_of

if TYPE_CHECKING:
    from tests.api.conftest import Service

FOLDER = Path(__file__).parents[3] / "data" / "label_spaces"
SPACES = load_label_spaces(FOLDER)
VALENCES = valences_of(load_derived_label_spaces(FOLDER, SPACES))
MELD = SPACES["meld"].names


async def say(service: "Service", label: str, speaker: str = "Ann", dialogue: str = "d") -> Any:
    service.engine.choice = MELD.index(label)
    answer = await service.say(dialogue, speaker, f"This is {label}.", label_space="meld")
    assert answer.status_code == 201, answer.text
    return answer.json()


def valence(answer: dict[str, Any]) -> float:
    weights = VALENCES.weights["meld"]
    probabilities: dict[str, float] = answer["emotion"]["probabilities"]
    return sum(weights[name] * p for name, p in probabilities.items())


async def summary(service: "Service", dialogue: str = "d") -> Any:
    answer = await service.client.get(f"/dialogues/{dialogue}/summary")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(service: "Service", **query: Any) -> Any:
    answer = await service.client.get("/dialogues", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_summary_says_what_the_answers_said(service: "Service") -> None:
    """By speaker and as a whole."""
    answers = [
        await say(service, "joy"),
        await say(service, "anger", "Bob"),
        await say(service, "anger"),
    ]

    document = await summary(service)

    valences = [valence(answer) for answer in answers]
    assert document["dialogue_id"] == "d"
    assert document["valence"]["mean"] == pytest.approx(sum(valences) / 3, abs=2 / UNIT)
    assert document["valence"]["shift"] == pytest.approx(valences[2] - valences[0], abs=2 / UNIT)
    assert document["valence"]["highest"]["index"] == 0
    (space,) = document["label_spaces"]
    assert [(label["label"], label["count"]) for label in space["labels"]] == [
        ("anger", 2),
        ("joy", 1),
    ]
    peak = {"index": 1, "probability": answers[1]["emotion"]["confidence"]}
    assert space["labels"][0]["peak"] == peak
    assert space["longest_run"] == {"label": "anger", "length": 2, "first": 1, "last": 2}
    assert [(part["speaker"], part["utterances"]) for part in document["speakers"]] == [
        ("Ann", 2),
        ("Bob", 1),
    ]


async def test_a_summary_describes_roles(service: "Service") -> None:
    """Of the utterances that came with one; the list finds the dialogue by it."""
    await service.say("d", "Ann", "We won!", role="customer")
    await service.say("d", "Bob", "No.", role="agent")
    await service.say("d", "Cy", "Yes.", role="agent")
    await service.say("other", "Dan", "Hm.")

    roles = (await summary(service))["roles"]

    assert [(part["role"], part["utterances"]) for part in roles] == [("agent", 2), ("customer", 1)]
    assert [each["id"] for each in (await listed(service, role="agent"))["dialogues"]] == ["d"]


async def test_a_persons_label_counts(service: "Service") -> None:
    """In place of the prediction, and against it; in another label space by its unified label."""
    answers = [await say(service, "joy") for _ in range(3)]
    path = "/dialogues/d/utterances"
    await service.client.put(f"{path}/0/label", json={"label": "anger", "label_space": "meld"})
    await service.client.put(f"{path}/1/label", json={"label": "joyful", "label_space": "unified"})

    document = await summary(service)

    (space,) = document["label_spaces"]
    assert {label["label"]: label["count"] for label in space["labels"]} == {"joy": 2, "anger": 1}
    assert space["agreement"] == {"corrected": 2, "compared": 2, "agreed": 1}
    assert document["valence"]["lowest"] == {"index": 0, "valence": -1.0}
    assert document["valence"]["highest"] == {"index": 1, "valence": 1.0}
    assert (await listed(service))["dialogues"][0]["valence"] == document["valence"]["mean"]

    await service.client.delete(f"{path}/0/label")

    lowest = (await summary(service))["valence"]["lowest"]
    assert lowest == {"index": 0, "valence": pytest.approx(valence(answers[0]), abs=2 / UNIT)}


async def test_a_summary_has_the_version_of_its_dialogue(service: "Service") -> None:
    """A client that has it is not sent it again."""
    await say(service, "joy")
    first = await service.client.get("/dialogues/d/summary")
    tag = {"if-none-match": first.headers["etag"]}

    assert (await service.client.get("/dialogues/d/summary", headers=tag)).status_code == 304
    await say(service, "joy")
    assert (await service.client.get("/dialogues/d/summary", headers=tag)).status_code == 200


async def test_no_tenant_learns_of_anothers_dialogues(service: "Service") -> None:
    service.speak_for("one")
    await say(service, "joy")
    service.speak_for("two")

    assert (await service.client.get("/dialogues/d/summary")).status_code == 404
    assert await listed(service) == {"dialogues": [], "next": None}


async def test_the_pages_of_a_list_lead_to_all_of_it(service: "Service") -> None:
    """In each order, with the conditions of the first page."""
    for n, label in enumerate(("joy", "anger", "sadness", "joy", "neutral")):
        for _ in range(3):
            await say(service, label, dialogue=f"d{n}")
    orders: dict[str, list[str]] = {}
    for sort in ("updated", "valence", "fall"):
        path: str | None = f"/dialogues?sort={sort}&limit=2&speaker=Ann"
        orders[sort] = []
        while path is not None:
            answer = await service.client.get(path)
            page = answer.json()
            orders[sort] += [each["id"] for each in page["dialogues"]]
            path = page["next"]
            assert (path is not None) == ("link" in answer.headers)

    assert orders["updated"] == ["d4", "d3", "d2", "d1", "d0"]
    assert orders["valence"] == ["d1", "d2", "d4", "d0", "d3"]
    assert orders["fall"] == ["d0", "d1", "d2", "d3", "d4"]


async def test_conditions_choose_dialogues(service: "Service") -> None:
    await say(service, "joy", dialogue="happy")
    await say(service, "anger", dialogue="angry")
    await say(service, "joy", "Bob", dialogue="angry")

    async def having(**query: Any) -> list[str]:
        return [each["id"] for each in (await listed(service, **query))["dialogues"]]

    assert await having(label="Anger", label_space="meld") == ["angry"]
    assert await having(label="joy", label_space="meld", min_share=0.6) == ["happy"]
    assert await having(label="joy", label_space="meld", min_probability=1) == []
    assert await having(speaker="Bob") == ["angry"]
    assert await having(updated_since="2999-01-01T00:00:00Z") == []
    assert await having(updated_since="2020-01-01T00:00:00+02:00") == ["angry", "happy"]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("after=nonsense", "after"),
        ("after=WzEuNSwiZCJd", "after"),  # of another order: [1.5,"d"]
        ("after=WyIyMDI2LTAxLTAyIiwiZCJd", "after"),  # ["2026-01-02","d"]: without a zone
        ("sort=valence&after=WyJ4IiwiZCJd", "after"),  # ["x","d"]
        ("sort=age", "sort"),
        ("limit=201", "limit"),
        ("min_share=0.5", "min_share"),
        ("label_space=meld", "label_space"),
        ("label=joy&min_share=nan", "min_share"),
        ("updated_since=2026-01-02T03:04:05", "updated_since"),
        ("updated_since=0001-01-01T00:00:00%2B14:00", "updated_since"),
        ("updated_since=0.5", "updated_since"),
        ("updated_since=1767323045", "updated_since"),
        ("label=a%00b", "label"),
        ("label=joy&label_space=a%00b", "label_space"),
        ("mood=bad", "mood"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_wrong_parameter_is_named(
    standing_service: "Service", query: str, parameter: str
) -> None:
    answer = await standing_service.client.get(f"/dialogues?{query}")

    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["parameter"] == parameter


DIALOGUE: dict[str, Any] = {
    "id": "a",
    "utterances": [
        {"speaker": "Ann", "text": "We won!", "role": "customer"},
        {"speaker": "Bob", "text": "No.", "role": "agent"},
    ],
}


async def test_results_of_a_batch_have_summaries_where_asked(service: "Service") -> None:
    """As JSON and as lines; by speaker and by role."""
    body = {"label_space": "meld", "dialogues": [DIALOGUE]}

    plain = await service.client.post("/batch", json=body)
    asked = await service.client.post("/batch?summary=true", json=body)
    lines = await service.client.post(
        "/batch?summary=true&label_space=meld",
        content=json.dumps(DIALOGUE),
        headers={"content-type": "application/x-ndjson"},
    )

    assert "summary" not in plain.json()["results"][0]
    (result,) = asked.json()["results"]
    document = result["summary"]
    assert document["utterances"] == 2
    assert [part["speaker"] for part in document["speakers"]] == ["Ann", "Bob"]
    assert [part["role"] for part in document["roles"]] == ["customer", "agent"]
    assert json.loads(lines.text)["summary"] == document


async def test_a_job_has_no_summaries(service: "Service") -> None:
    body = {"label_space": "meld", "dialogues": [DIALOGUE]}

    answer = await service.client.post(
        "/batch?summary=true", json=body, headers={"prefer": "respond-async"}
    )

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "summary"
