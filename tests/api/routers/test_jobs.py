"""Jobs, through HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from sqlalchemy import text as sql
from starlette.types import Message, Scope

from service.api.schemas.batch import JobOut
from service.settings import Admission, Limits
from tests.api.batches.test_lines import HEADERS, NDJSON, SAID, line
from tests.api.conftest import documented
from tests.api.numbers import at, numbers
from tests.clock import Clock

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

LATER = {"Prefer": "respond-async"}
BATCH = {
    "label_space": "meld",
    "dialogues": [{"id": n, "utterances": [SAID] * 3} for n in "zay"],
}


async def begun(service: "Service", **more: Any) -> httpx.Response:
    arguments: dict[str, Any] = {"json": BATCH, "headers": LATER} | more
    answer = await service.client.post("/batch", **arguments)
    assert answer.status_code == 202, answer.text
    return answer


async def results(service: "Service", job: Any) -> list[Any]:
    answer = await service.client.get(job["results"])
    assert answer.headers["content-type"] == NDJSON
    return [json.loads(each) for each in answer.text.splitlines()]


async def test_a_job_is_accepted_and_done_later(service: "Service") -> None:
    """Its results are those that the batch would have been answered."""
    answer = await begun(service)
    where = answer.headers["location"]
    assert answer.headers["preference-applied"] == "respond-async"
    assert documented(JobOut, answer.json())["state"] == "queued"
    assert await results(service, answer.json()) == []

    await service.work()

    job = (await service.client.get(where)).json()
    at_once = (await service.client.post("/batch", json=BATCH)).json()["results"]
    assert (job["state"], job["dialogues"], job["done"], job["failed"]) == ("done", 3, 3, 0)
    assert await results(service, job) == [
        {"line": n + 1, **each} for n, each in enumerate(at_once)
    ]
    assert (await numbers(service))[at("erc_jobs", state="done")] == 1


async def test_whoever_has_two_preferences_is_told_of_both(service: "Service") -> None:
    """In one header."""
    answer = await begun(service, headers={"Prefer": "respond-async, wait=5"})

    assert answer.headers["preference-applied"] == "respond-async, wait=5"


async def test_a_job_of_lines_has_their_errors_in_its_results(service: "Service") -> None:
    """More lines than are done at once; a line that is no dialogue fails alone."""
    content = b"".join(line(str(n), "Hi.") for n in range(250)) + b"{\n" + line("x", "Bye.")

    answer = await begun(service, json=None, content=content, headers=HEADERS | LATER)
    await service.work()

    job = (await service.client.get(answer.headers["location"])).json()
    rows = await results(service, job)
    assert (job["state"], job["dialogues"], job["failed"]) == ("done", 252, 1)
    assert [each["line"] for each in rows] == [*range(1, 253)]
    assert [each["error"]["status"] for each in rows if "error" in each] == [400]


async def test_what_unicode_takes_for_the_end_of_a_line_ends_no_result(service: "Service") -> None:
    """What is wrong with a line is told in its own words."""
    wrong = orjson.dumps({"utterances": [SAID], "a\u2028b": 1, "c\x85d": 2}) + b"\n"
    answer = await begun(service, json=None, content=wrong, headers=LATER | HEADERS)

    await service.work()

    content = (await service.client.get(answer.json()["results"])).content
    (only,) = [json.loads(each) for each in content.split(b"\n")[:-1]]
    assert "a\u2028b" in json.dumps(only["error"], ensure_ascii=False)


async def test_a_deleted_job_is_gone(service: "Service", problem: Any) -> None:
    """With its results; nothing of it is done any more."""
    where = (await begun(service)).headers["location"]

    assert (await service.client.delete(where)).status_code == 204

    await service.work()
    assert service.engine.prompts == []
    for path in (where, f"{where}/results"):
        assert problem(await service.client.get(path)) == (404, "job-not-found")
    assert problem(await service.client.delete(where)) == (404, "job-not-found")


async def test_a_job_is_its_tenants_alone(service: "Service", problem: Any) -> None:
    """To another one it does not exist."""
    where = (await begun(service)).headers["location"]
    service.speak_for("another")

    for path in (where, f"{where}/results"):
        assert problem(await service.client.get(path)) == (404, "job-not-found")
    assert problem(await service.client.delete(where)) == (404, "job-not-found")


async def test_a_repeated_request_makes_no_second_job(service: "Service") -> None:
    """Under its key it is answered with the same one."""
    headers = LATER | {"Idempotency-Key": "k"}

    first, second = [await begun(service, headers=headers) for _ in range(2)]

    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert first.headers["location"] == second.headers["location"]
    assert sum((await service.services.jobs.counts()).values()) == 1


async def test_a_key_is_for_one_way_of_answering(service: "Service", problem: Any) -> None:
    """The same dialogues answered at once are another request."""
    await begun(service, headers=LATER | {"Idempotency-Key": "k"})

    refused = await service.client.post("/batch", json=BATCH, headers={"Idempotency-Key": "k"})

    assert problem(refused) == (409, "idempotency-key-reused")


async def test_one_job_too_many_is_refused(start_service: "StartService", tmp_path: Path) -> None:
    """Until one is deleted, or was erased some time after its end."""
    async with start_service(tmp_path, Limits(jobs=1)) as service:
        await begun(service)
        refused = await service.client.post("/batch", json=BATCH, headers=LATER)
        assert refused.status_code == 429
        assert refused.json()["type"] == "/problems/too-many-jobs"
        await service.work()
        await service.keep_house(job_retention_s=1e-6)
        await begun(service)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"json": BATCH | {"label_space": "nonsense"}}, "unsupported-label-space"),
        ({"json": {"dialogues": [{"id": "a"}]}}, "invalid-request"),
    ],
)
async def test_what_would_be_refused_at_once_makes_no_job(
    service: "Service", problem: Any, arguments: dict[str, Any], name: str
) -> None:
    """A job has only the errors of single dialogues."""
    answer = await service.client.post("/batch", headers=LATER, **arguments)

    assert problem(answer) == (422, name)
    assert sum((await service.services.jobs.counts()).values()) == 0


async def test_while_the_engine_is_away_a_job_waits(service: "Service") -> None:
    """It goes on once the engine is back."""
    answer = await begun(service)
    service.engine.goes_away()
    with pytest.raises(Exception, match="the label engine has died"):
        await service.work()
    service.engine.comes_back()

    await service.work()

    job = (await service.client.get(answer.headers["location"])).json()
    assert (job["state"], job["failed"]) == ("done", 0)


MINIMAL = b'{"id":"a","utterances":[%b]}\n'
STRAY = b"{" + b",".join(b'"/%x":0' % n for n in range(64)) + b"}\n"


@pytest.mark.parametrize(
    "content",
    [
        b"{\n" * 1000,
        b"{}\n" * 1000,
        STRAY * 1000,
        (b'{"' + b"/" * 200 + b'":0}\n') * 1000,
        (b'{"utterances":[' + STRAY.strip() + b"]}\n") * 1000,
        MINIMAL % b"" * 5000,
        MINIMAL % b'{"speaker":"A","text":"b"}' * 5000,
        MINIMAL % b",".join([b'{"speaker":"A","text":"b"}'] * 500) * 20,
        MINIMAL % b'{"speaker":"\\n","text":"b"}' * 1000,
        b"[" * 1000 + b"\n" + b"x" * 2_000_000 + b"\n" + b"{\n" * 900,
    ],
    ids=lambda content: repr(content[:30]),
)
async def test_a_job_takes_little_more_room_than_was_sent(
    service: "Service", content: bytes
) -> None:
    """Whatever is wrong with its lines: what is said of them is bounded too."""
    await begun(service, json=None, content=content, headers=HEADERS | LATER)

    async with service.database.engine.connect() as connection:
        size = sql("SELECT sum(length(CAST(dialogues AS BLOB))) FROM job_work")
        stored = (await connection.execute(size)).scalar_one()
    assert stored < 3 * len(content) + 1000 * 500


async def test_a_file_of_broken_lines_makes_no_job(service: "Service", problem: Any) -> None:
    """A thousand may be; the refusal names the first, and nothing more is read."""
    taken = 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal taken
        yield line("a", "Hi.")
        for _ in range(2000):
            yield b"{\n"
            taken += 1

    refused = await service.client.post("/batch", content=lines(), headers=HEADERS | LATER)

    assert problem(refused) == (422, "invalid-request")
    assert "1000 lines are broken, the first of them line 2" in refused.json()["detail"]
    assert taken == 1000
    assert sum((await service.services.jobs.counts()).values()) == 0


async def test_a_job_has_so_many_lines(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Of either form; nothing is stored of more."""
    async with start_service(tmp_path, Limits(job_dialogues=3)) as service:
        await begun(service)
        one = line("a", "Hi.")
        await begun(service, json=None, content=one * 3, headers=HEADERS | LATER)
        refused = [
            await service.client.post("/batch", headers=LATER, json=more)
            for more in ({"dialogues": [{"id": n, "utterances": [SAID]} for n in "zayb"]},)
        ]
        for content in (one * 4, one + b"{\n" * 3):
            refused.append(
                await service.client.post("/batch", content=content, headers=HEADERS | LATER)
            )

        assert [problem(each) for each in refused] == [(422, "invalid-request")] * 3
        assert all("at most 3 are allowed" in each.text for each in refused)
        assert sum((await service.services.jobs.counts()).values()) == 2


async def test_results_are_given_for_as_long_as_they_are_taken(
    start_service: "StartService", tmp_path: Path, clock: Clock
) -> None:
    """Each portion that was taken renews the time."""
    admission = Admission(deadline_s=1000, utterances=8)
    async with start_service(tmp_path, Limits(), admission=admission) as service:
        content = line("a", "Hi.") * 400
        answer = await begun(service, json=None, content=content, headers=HEADERS | LATER)
        await service.work()
        taken: list[bytes] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message.get("body"):
                taken.append(message["body"])
                await clock.skip(400)

        path = answer.json()["results"]
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "state": dict(service.state),
        }
        await service.app(scope, receive, send)

    assert len(taken) == 4
    assert len(b"".join(taken).splitlines()) == 400
