"""What was said in an erased dialogue is in no other answer either."""

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.api.routers.test_events import following, take
from tests.api.routers.test_jobs import begun, results
from tests.api.serving import serving

if TYPE_CHECKING:
    from tests.api.conftest import Service

SECRET = "The door code is 4711."
ROLE = "the neighbour with the spare key"
LABEL = "/dialogues/erased/utterances/0/label"
KEYED = {"Idempotency-Key": "k-1"}
BATCH = {
    "label_space": "meld",
    "dialogues": [{"id": "a", "utterances": [{"speaker": "Bo", "text": SECRET}]}],
}


@pytest.fixture
async def shown(service: "Service") -> "Service":
    """A service with a dialogue whose corrected text stands in answers about others."""
    await service.say("erased", "Ann", SECRET, label_space="meld")
    answer = await service.client.put(LABEL, json={"label": "joy", "label_space": "meld"})
    assert answer.status_code == 200
    return service


async def erase(service: "Service") -> None:
    assert (await service.client.delete("/dialogues/erased")).status_code == 204


async def post(service: "Service") -> httpx.Response:
    turn = {"speaker": "Bo", "text": "The door code?", "label_space": "meld"}
    return await service.client.post("/dialogues/other/utterances", json=turn, headers=KEYED)


async def rows_of(service: "Service", table: str) -> str:
    """The rows of a table, as text: whole, where the representation of a row is shortened."""
    async with service.database.engine.connect() as connection:
        rows = await connection.exec_driver_sql(f"SELECT * FROM {table}")
        return repr([tuple(row) for row in rows])


def texts(utterances: list[Any]) -> list[str | None]:
    return [each["text"] for utterance in utterances for each in utterance["demonstrations"]]


async def test_a_timeline_shows_what_is_left(shown: "Service") -> None:
    """Which demonstration was shown stays, with its label and nearness; its text is gone."""
    answer = await post(shown)
    assert texts([answer.json()]) == [SECRET]
    before = (await shown.timeline("other"))["utterances"]
    assert texts(before) == [SECRET]

    await erase(shown)

    (after,) = (await shown.timeline("other"))["utterances"]
    assert texts([after]) == [None]
    (demonstration,) = after["demonstrations"]
    assert demonstration == before[0]["demonstrations"][0] | {"text": None}


async def test_an_answer_given_again_shows_what_is_left(shown: "Service") -> None:
    """As it was given first, but for the text; of a batch as well."""
    turn = (await post(shown)).json()
    batch = await shown.client.post("/batch", json=BATCH, headers={"Idempotency-Key": "k-2"})
    assert (await post(shown)).json() == turn

    await erase(shown)

    again = await post(shown)
    assert again.headers["idempotency-replayed"] == "true"
    assert SECRET not in again.text
    assert texts([again.json()]) == [None]
    batch_again = await shown.client.post("/batch", json=BATCH, headers={"Idempotency-Key": "k-2"})
    assert batch_again.headers["idempotency-replayed"] == "true"
    assert texts(batch.json()["results"][0]["utterances"]) == [SECRET]
    assert texts(batch_again.json()["results"][0]["utterances"]) == [None]


async def test_the_results_of_a_job_show_what_is_left(shown: "Service") -> None:
    """Though the job itself is not erased."""
    job = (await begun(shown, json=BATCH)).json()
    await shown.work()
    (line,) = await results(shown, job)
    assert texts(line["utterances"]) == [SECRET]

    await erase(shown)

    (line,) = await results(shown, job)
    assert texts(line["utterances"]) == [None]


async def test_a_stream_that_begins_later_shows_what_is_left(shown: "Service") -> None:
    """Its events are read anew."""
    await post(shown)
    await erase(shown)

    async with (
        serving(shown) as served,
        following(served, path="/dialogues/other/events") as lines,
    ):
        (event,) = await take(lines, 1)

    assert texts([event.data]) == [None]


async def test_no_table_holds_the_text(shown: "Service") -> None:
    """Nor a role; nor the answers to the dialogue's requests, which go with it."""
    turn = {"speaker": "Cy", "text": "I have one.", "role": ROLE}
    key = {"Idempotency-Key": "k-4"}
    await shown.client.post("/dialogues/erased/utterances", json=turn, headers=key)
    for table in ("utterances", "answers"):
        assert ROLE in await rows_of(shown, table)
    corrected = {"label": "anger", "label_space": "meld"}
    await shown.client.put(LABEL, json=corrected, headers={"Idempotency-Key": "k-3"})
    await post(shown)
    await begun(shown, json=BATCH | {"dialogues": [{"id": "b", "utterances": []}]})
    await shown.work()

    await erase(shown)

    for table in ("utterances", "answers", "job_results", "job_work", "changes"):
        rows_left = await rows_of(shown, table)
        assert SECRET not in rows_left, table
        assert ROLE not in rows_left, table
    async with shown.database.engine.connect() as connection:
        rows = await connection.exec_driver_sql("SELECT body FROM answers WHERE key = 'k-3'")
        assert rows.scalar_one() == ""


async def test_a_deleted_job_leaves_no_role(service: "Service") -> None:
    """Neither before it is done nor after."""
    utterance = {"speaker": "Bo", "text": "Hi.", "role": ROLE}
    batch = {"dialogues": [{"id": "a", "utterances": [utterance]}]}
    for table, work in (("job_work", False), ("job_results", True)):
        where = (await begun(service, json=batch)).headers["location"]
        if work:
            await service.work()
        assert ROLE in await rows_of(service, table)

        await service.client.delete(where)

        assert await rows_of(service, table) == "[]"


async def test_while_the_demonstrations_are_away_a_timeline_is_without_texts(
    shown: "Service",
) -> None:
    """It can be read all the same."""
    await post(shown)
    await shown.lose_demonstrations()

    assert texts((await shown.timeline("other"))["utterances"]) == [None]


async def test_while_the_demonstrations_hang_a_timeline_is_without_texts(
    shown: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment, as when they refuse."""
    await post(shown)

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(shown.store, "texts", hang)
    monkeypatch.setattr("service.api.services._LOOKUP_S", 0.05)

    assert texts((await shown.timeline("other"))["utterances"]) == [None]


async def test_an_answer_about_demonstrations_is_made_of_the_request(service: "Service") -> None:
    """Given again it is the same, and nothing of it is kept."""
    body = {"demonstrations": [{"label_space": "meld", "label": "JOY", "text": SECRET}]}
    first, again = [
        await service.client.post("/demonstrations", json=body, headers=KEYED) for _ in range(2)
    ]

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    async with service.database.engine.connect() as connection:
        rows = await connection.exec_driver_sql("SELECT body FROM answers")
        assert rows.scalars().all() == [""]
