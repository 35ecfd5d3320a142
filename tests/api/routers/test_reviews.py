"""What people check next, and what they have corrected, as clients meet it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema_rs
import pytest

from service.api.schemas.reviews import UtterancePage
from service.conversation.labels import load_label_spaces
from service.dialogue_files import read_dialogues
from service.dialogue_format import dialogue_schema
from service.sessions import reviews
from tests.api.conftest import documented

if TYPE_CHECKING:
    from tests.api.conftest import Service

FOLDER = Path(__file__).parents[3] / "data" / "label_spaces"
MELD = load_label_spaces(FOLDER)["meld"].names


async def say(
    service: "Service", text: str, label: str = "joy", dialogue: str = "d", **more: Any
) -> Any:
    service.engine.choice = MELD.index(label)
    answer = await service.say(dialogue, "Ann", text, **{"label_space": "meld", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def correct(
    service: "Service", index: int, label: str, label_space: str = "meld", dialogue: str = "d"
) -> None:
    path = f"/dialogues/{dialogue}/utterances/{index}/label"
    body = {"label": label, "label_space": label_space}
    answer = await service.client.put(path, json=body)
    assert answer.status_code == 200, answer.text


async def listed(service: "Service", **query: Any) -> Any:
    answer = await service.client.get("/utterances", params={"label_space": "meld", **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def exported(service: "Service", **query: Any) -> list[Any]:
    answer = await service.client.get("/corrections", params={"label_space": "meld", **query})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_list_shows_answers_with_their_margins(service: "Service") -> None:
    """As the timeline has them, and nothing that the documentation has not."""
    said = await say(service, "We won!", role="agent")

    page = await listed(service)

    assert documented(UtterancePage, page) == page
    (utterance,) = page["utterances"]
    (stored,) = (await service.timeline("d"))["utterances"]
    highest, following = sorted(said["emotion"]["probabilities"].values())[:-3:-1]
    assert utterance == {**stored, "margin": pytest.approx(highest - following)}
    assert (utterance["dialogue_id"], utterance["role"]) == ("d", "agent")
    assert page["next"] is None
    assert page["progress"] == {"utterances": 1, "corrected": 0}


async def test_a_corrected_utterance_leaves_the_list(service: "Service") -> None:
    """And is in the other one, with the label that the person gave it."""
    for text in ("One.", "Two.", "Three."):
        await say(service, text)

    await correct(service, 1, "anger")

    page = await listed(service)
    assert {each["index"] for each in page["utterances"]} == {0, 2}
    assert page["progress"] == {"utterances": 3, "corrected": 1}
    (corrected,) = (await listed(service, corrected="true"))["utterances"]
    assert (corrected["index"], corrected["correction"]["label"]) == (1, "anger")


@pytest.mark.parametrize("sort", ["margin", "newest"])
async def test_the_pages_of_a_list_lead_to_all_of_it(service: "Service", sort: str) -> None:
    """By the cursor of the body and by the link of the head."""
    for n in range(5):
        await say(service, f"Number {n}.", dialogue=f"d{n % 2}")
    order = [
        (each["dialogue_id"], each["index"])
        for each in (await listed(service, sort=sort))["utterances"]
    ]
    names: list[tuple[str, int]] = []
    query: dict[str, Any] = {"label_space": "meld", "sort": sort, "limit": 2}
    while True:
        answer = await service.client.get("/utterances", params=query)
        page = answer.json()
        names += [(each["dialogue_id"], each["index"]) for each in page["utterances"]]
        if page["next"] is None:
            assert "link" not in answer.headers
            break
        query["cursor"] = page["next"]
        linked = await service.client.get(answer.links["next"]["url"])
        by_cursor = await service.client.get("/utterances", params=query)
        assert linked.json() == by_cursor.json()

    assert names == order
    assert len(set(names)) == 5
    if sort == "newest":
        assert names[0] == ("d0", 2)


async def test_answers_in_other_label_spaces_have_lists_of_their_own(service: "Service") -> None:
    """Unified ones and derived ones; the name may be in any case."""
    await say(service, "One.", dialogue="a")
    await say(service, "Two.", dialogue="b", label_space="unified")
    await say(service, "Three.", dialogue="c", label_space="meld-sentiment")

    for label_space, dialogue in (("MELD", "a"), ("unified", "b"), ("meld-sentiment", "c")):
        page = await listed(service, label_space=label_space)
        assert [each["dialogue_id"] for each in page["utterances"]] == [dialogue]
        assert page["progress"]["utterances"] == 1


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"sort": "worst"}, "sort"),
        ({"limit": 0}, "limit"),
        ({"limit": 201}, "limit"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": "WzFd"}, "cursor"),  # [1]
        ({"cursor": "WzAuNSwiZCIsLTFd"}, "cursor"),  # [0.5,"d",-1]
        ({"cursor": "WzAuNSwiZCIsdHJ1ZV0"}, "cursor"),  # [0.5,"d",true]
        ({"cursor": "WzAuNSwiZCIsMF0", "sort": "newest"}, "cursor"),  # [0.5,"d",0]
        ({"cursor": "WyJ4IiwiZCIsMF0", "sort": "newest"}, "cursor"),  # ["x","d",0]
        ({"corrected": "perhaps"}, "corrected"),
        ({"speaker": "Ann"}, "speaker"),
    ],
)
async def test_a_wrong_query_is_named(
    service: "Service", query: dict[str, Any], parameter: str
) -> None:
    answer = await service.client.get("/utterances", params=query)

    assert answer.status_code == 422
    assert [each["parameter"] for each in answer.json()["errors"]] == [parameter]


@pytest.mark.parametrize("path", ["/utterances", "/corrections"])
async def test_an_unknown_label_space_is_refused(
    service: "Service", problem: Callable[[httpx.Response], tuple[int, str]], path: str
) -> None:
    """An empty answer would mean that there is nothing to do."""
    answer = await service.client.get(path, params={"label_space": "mled"})

    assert problem(answer) == (422, "unsupported-label-space")


async def test_an_export_has_the_dialogues_with_corrections(
    service: "Service", tmp_path: Path
) -> None:
    """Whole, in the one format of dialogues, with a label only where a person gave it."""
    more: dict[str, Any] = {"start": 1.5, "end": 2.0, "role": "agent", "description": "She jumps."}
    await say(service, "One.", dialogue="b", **more)
    await say(service, "Two.", dialogue="b")
    await say(service, "Three.", dialogue="a")
    await say(service, "Untouched.", dialogue="c")
    await say(service, "Elsewhere.", dialogue="e")
    await correct(service, 1, "anger", dialogue="b")
    await correct(service, 0, "joy", dialogue="a")
    await correct(service, 0, "mad", "unified", dialogue="b")
    await correct(service, 0, "mad", "unified", dialogue="e")

    dialogues = await exported(service)

    assert dialogues == [
        {"id": "a", "utterances": [{"speaker": "Ann", "text": "Three.", "label": "joy"}]},
        {
            "id": "b",
            "utterances": [
                {"speaker": "Ann", "text": "One.", **more},
                {"speaker": "Ann", "text": "Two.", "label": "anger"},
            ],
        },
    ]
    validator = jsonschema_rs.validator_for(dialogue_schema())
    assert all(map(validator.is_valid, dialogues))
    file = tmp_path / "corrections.jsonl"
    file.write_text("".join(json.dumps(dialogue) + "\n" for dialogue in dialogues))
    assert [dialogue.id for dialogue in read_dialogues(file)] == ["a", "b"]
    unified = await exported(service, label_space="unified")
    assert [dialogue["id"] for dialogue in unified] == ["b", "e"]


async def test_an_export_can_begin_where_another_ended(service: "Service") -> None:
    """A dialogue that was corrected since comes with all of its labels."""
    for dialogue in ("a", "b"):
        await say(service, "One.", dialogue=dialogue)
        await say(service, "Two.", dialogue=dialogue)
        await correct(service, 0, "anger", dialogue=dialogue)
    corrected = (await listed(service, corrected="true"))["utterances"]
    moment = max(each["correction"]["created_at"] for each in corrected)
    await correct(service, 1, "joy", dialogue="a")

    (last, _) = await exported(service, updated_since=moment)
    assert last["id"] == "a"
    later = (await listed(service, corrected="true", sort="newest"))["utterances"]
    newest = max(each["correction"]["created_at"] for each in later)
    (only,) = await exported(service, updated_since=newest)
    assert [each["label"] for each in only["utterances"]] == ["anger", "joy"]
    assert await exported(service, updated_since="2100-01-01T00:00:00Z") == []


async def test_a_long_dialogue_is_one_line(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many portions it is read in, and however many dialogues there are."""
    monkeypatch.setattr(reviews, "_DIALOGUES", 1)
    for dialogue, length in (("a", 4), ("b", 5), ("c", 1)):
        for n in range(length):
            await say(service, f"Number {n}.", dialogue=dialogue)
        await correct(service, length - 1, "anger", dialogue=dialogue)
    whole = await exported(service)

    monkeypatch.setattr(reviews, "_UTTERANCES", 2)
    monkeypatch.setattr(reviews, "_LINES", reviews._LINES.limit(2))

    assert await exported(service) == whole
    assert [len(dialogue["utterances"]) for dialogue in whole] == [4, 5, 1]


async def test_no_tenant_learns_of_anothers_utterances_and_corrections(
    service: "Service",
) -> None:
    service.speak_for("one")
    await say(service, "One.")
    await correct(service, 0, "anger")
    await say(service, "Two.")
    cursor = (await listed(service, limit=1, sort="newest", corrected="true"))["next"]
    assert cursor is None

    service.speak_for("two")

    nothing: Any = {"utterances": [], "next": None, "progress": {"utterances": 0, "corrected": 0}}
    assert await listed(service) == nothing
    assert await listed(service, corrected="true") == nothing
    assert await exported(service) == []
