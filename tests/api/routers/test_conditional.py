"""Pages of a timeline, and requests that are about one state of a dialogue."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.settings import Limits

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

PATH = "/dialogues/call-42"
SAID = {"speaker": "Ann", "text": "We won!"}


async def tag(service: "Service") -> str:
    etag: str = (await service.client.get(PATH)).headers["etag"]
    return etag


async def test_every_write_makes_another_tag_and_a_read_makes_none(service: "Service") -> None:
    """The answer to a turn has the tag that a reader then sees; an id used anew has a new one."""
    seen = []
    for _ in range(3):
        answer = await service.say("call-42", "Ann", "We won!")
        seen.append(answer.headers["etag"])
        assert await tag(service) == await tag(service) == seen[-1]
    await service.client.delete(PATH)
    for _ in range(3):
        seen.append((await service.say("call-42", "Ann", "We won!")).headers["etag"])

    assert len(set(seen)) == 6
    assert all(each.startswith('"') for each in seen)


async def test_a_reader_who_has_the_timeline_is_sent_nothing(service: "Service") -> None:
    """Until somebody writes."""
    await service.say("call-42", "Ann", "We won!")
    known = await tag(service)

    for condition in (known, f"W/{known}", f'"other", {known}', f'"a,b" , {known}', " *"):
        answer = await service.client.get(PATH, headers={"If-None-Match": condition})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == known
    await service.say("call-42", "Ann", "Again!")
    answer = await service.client.get(PATH, headers={"If-None-Match": known})
    assert answer.status_code == 200
    assert len(answer.json()["utterances"]) == 2


async def test_a_write_to_another_dialogue_than_was_seen_is_refused(
    service: "Service", problem: Any
) -> None:
    """And nothing is changed; with the right tag, or any where there is one, it is carried out."""
    await service.say("call-42", "Ann", "We won!")
    old = await tag(service)
    await service.say("call-42", "Bo", "Great.")

    for wrong in (old, '"other"', f"W/{await tag(service)}"):
        for method, path, body in (("POST", f"{PATH}/utterances", SAID), ("DELETE", PATH, None)):
            answer = await service.client.request(
                method, path, json=body, headers={"If-Match": wrong}
            )
            assert problem(answer) == (412, "dialogue-changed")
    assert len((await service.timeline("call-42"))["utterances"]) == 2
    for right in (await tag(service), "*"):
        answer = await service.client.post(
            f"{PATH}/utterances", json=SAID, headers={"If-Match": right}
        )
        assert answer.status_code == 201
    erased = await service.client.delete(PATH, headers={"If-Match": await tag(service)})
    assert erased.status_code == 204


async def test_a_turn_for_a_dialogue_that_is_not_there_is_refused_if_one_was_seen(
    service: "Service", problem: Any
) -> None:
    """It would begin another one."""
    for condition in ("*", '"5f.1"'):
        answer = await service.client.post(
            f"{PATH}/utterances", json=SAID, headers={"If-Match": condition}
        )
        assert problem(answer) == (412, "dialogue-changed")
    answer = await service.client.delete(PATH, headers={"If-Match": "*"})
    assert problem(answer) == (404, "dialogue-not-found")


async def test_of_turns_that_saw_the_same_one_is_taken(service: "Service") -> None:
    """The others are to read again."""
    await service.say("call-42", "Ann", "We won!")
    known = {"If-Match": await tag(service)}

    answers = await asyncio.gather(
        *(service.client.post(f"{PATH}/utterances", json=SAID, headers=known) for _ in range(5))
    )

    assert sorted(answer.status_code for answer in answers) == [201, 412, 412, 412, 412]


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["", "5f.1", '"5f.1', '"a" "b"', "*, *"])
async def test_a_tag_that_is_none_is_refused(
    service: "Service", problem: Any, header: str, value: str
) -> None:
    """The answer names the header."""
    method, path = ("DELETE", PATH) if header == "If-Match" else ("GET", PATH)

    answer = await service.client.request(method, path, headers={header: value})

    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["parameter"] == header


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_of_a_timeline_join_to_the_whole(service: "Service", limit: int) -> None:
    """`next`, in the body and as a link, leads from page to page; the last has none."""
    for n in range(7):
        await service.say("call%2042%3F", "Ann", f"line {n}")
    whole = (await service.client.get("/dialogues/call%2042%3F")).json()
    assert whole["next"] is None

    utterances, path = [], f"/dialogues/call%2042%3F?limit={limit}"
    while True:
        answer = await service.client.get(path)
        assert len(answer.json()["utterances"]) <= limit
        utterances += answer.json()["utterances"]
        if answer.json()["next"] is None:
            assert "link" not in answer.headers
            break
        path = answer.json()["next"]
        assert answer.headers["link"] == f'<{path}>; rel="next"'

    assert utterances == whole["utterances"]


async def test_a_page_behind_the_end_is_empty(service: "Service") -> None:
    """The dialogue is there, and may go on."""
    await service.say("call-42", "Ann", "We won!")

    answer = await service.client.get(PATH, params={"after": 0})

    assert answer.status_code == 200
    assert (answer.json()["utterances"], answer.json()["next"]) == ([], None)


async def test_a_page_has_no_more_than_the_settings_say(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Unasked as well."""
    async with start_service(tmp_path, Limits(timeline_utterances=2)) as service:
        for n in range(3):
            await service.say("call-42", "Ann", f"line {n}")

        timeline = await service.timeline("call-42")
        assert [each["index"] for each in timeline["utterances"]] == [0, 1]
        assert timeline["next"] == f"{PATH}?after=1&limit=2"
        answer = await service.client.get(PATH, params={"limit": 3})
        assert problem(answer) == (422, "invalid-request")
        assert answer.json()["errors"][0]["parameter"] == "limit"


@pytest.mark.parametrize(
    "query", [{"after": -1}, {"after": 2**31}, {"after": "x"}, {"limit": 0}, {"page": 1}]
)
async def test_a_page_asked_for_wrongly_is_refused(
    service: "Service", problem: Any, query: dict[str, Any]
) -> None:
    """The answer names the parameter."""
    answer = await service.client.get(PATH, params=query)

    assert problem(answer) == (422, "invalid-request")
    assert [fault["parameter"] for fault in answer.json()["errors"]] == list(query)
