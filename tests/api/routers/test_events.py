"""Server-sent events of a dialogue, over a real connection."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.types import Message

from service.api.events.stream import EventStream
from service.api.routers import events
from service.errors import ClientLeft
from service.sessions.followers import POLL_S
from service.sessions.store import SessionStore
from service.settings import Admission, Limits
from tests.api.numbers import at, numbers
from tests.api.serving import Served, serving
from tests.clock import PATIENT_S, until

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

PATH = "/dialogues/call-42/events"


@dataclass
class Received:
    """One event; a comment has nothing but its text as name."""

    id: str
    name: str
    data: Any


async def read(lines: AsyncIterator[str]) -> Received | None:
    """The next event or comment; None: the stream has ended."""
    fields: dict[str, str] = {}
    async for line in lines:
        if not line and fields.keys() - {"retry"}:
            return Received(
                fields.get("id", ""),
                fields.get("event", fields.get("", "")),
                json.loads(fields.get("data", "null")),
            )
        name, _, value = line.partition(": ")
        fields[name] = value
    return None


@asynccontextmanager
async def following(
    served: Served, last: str | None = None, path: str = PATH
) -> AsyncIterator[AsyncIterator[str]]:
    headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last})
    async with served.client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        async with asyncio.timeout(PATIENT_S):
            yield answer.aiter_lines()


async def take(lines: AsyncIterator[str], count: int) -> list[Received]:
    events = [await read(lines) for _ in range(count)]
    assert None not in events
    return [each for each in events if each is not None]


async def test_what_was_said_comes_first_then_what_is_said(service: "Service") -> None:
    """Each event has what the post was answered, and the timeline's moment."""
    first = (await service.say("call-42", "Ann", "We won!", start=1.5, role="agent")).json()
    async with serving(service) as served, following(served) as lines:
        (early,) = await take(lines, 1)
        second = (await service.say("call-42", "Bo", "No way.")).json()
        (late,) = await take(lines, 1)

    timeline = (await service.timeline("call-42"))["utterances"]
    moments = [each["created_at"] for each in timeline]
    assert [early.name, late.name] == ["prediction"] * 2
    assert [early.data, late.data] == [
        answer | {"created_at": moment}
        for answer, moment in zip((first, second), moments, strict=True)
    ]
    assert [(each.data["start"], each.data["role"]) for each in (early, late)] == [
        (1.5, "agent"),
        (None, None),
    ]


async def test_corrections_and_the_erasure_are_events_too(service: "Service") -> None:
    """A correction taken back is null; after the erasure there is nothing to come back for."""
    await service.say("call-42", "Ann", "We won!")
    label = "/dialogues/call-42/utterances/0/label"
    async with serving(service) as served, following(served) as lines:
        await take(lines, 1)
        for name in ("sad", "mad"):
            await service.client.put(label, json={"label": name})
        await service.client.delete(label)
        changes = await take(lines, 3)
        await service.client.delete("/dialogues/call-42")
        (erased,) = await take(lines, 1)
        assert await read(lines) is None
        again = await served.client.get(PATH, headers={"Last-Event-ID": erased.id})
        missed = await served.client.get(PATH, headers={"Last-Event-ID": changes[-1].id})

    corrections = [each.data["correction"] for each in changes]
    assert [each and each["label"] for each in corrections] == ["sad", "mad", None]
    assert {each.data["index"] for each in changes} == {0}
    assert (erased.name, erased.data) == ("erased", {"dialogue_id": "call-42"})
    assert again.status_code == 204
    assert f"id: {erased.id}" in missed.text


async def test_whoever_comes_back_goes_on_without_gap_or_double(service: "Service") -> None:
    """Broken off after any event, the rest follows, more than one reading takes."""
    for n in range(130):
        await service.say("call-42", "Ann", f"line {n}")
    await service.client.put("/dialogues/call-42/utterances/7/label", json={"label": "sad"})
    events: list[Received] = []
    async with serving(service) as served:
        for count in (1, 60, 69, 1):
            async with following(served, events[-1].id if events else None) as lines:
                events += await take(lines, count)

    assert [each.data["index"] for each in events] == [*range(130), 7]
    assert [each.name for each in events] == ["prediction"] * 130 + ["correction"]
    assert len({each.id for each in events}) == 131


async def test_a_timeline_is_followed_from_its_etag(service: "Service") -> None:
    """What a client has read is not sent to it."""
    await service.say("call-42", "Ann", "We won!")
    tag = (await service.client.get("/dialogues/call-42")).headers["etag"].strip('"')
    await service.say("call-42", "Bo", "No way.")

    async with serving(service) as served, following(served, path=f"{PATH}?after={tag}") as lines:
        (event,) = await take(lines, 1)

    assert event.data["text"] == "No way."


async def test_what_another_process_writes_is_sent_soon(service: "Service") -> None:
    """Another store on the same file stands for it: it wakes nobody here."""
    await service.say("call-42", "Ann", "We won!")
    other = SessionStore(service.database)
    async with serving(service) as served, following(served) as lines:
        await take(lines, 1)
        tail = await other.tail("default", "call-42", "Bo", 4)
        prediction: dict[str, Any] = {
            "emotion": {},
            "demonstrations": [],
            "model": {},
            "degraded": [],
        }
        await other.append(tail, text="No way.", label_space="unified", prediction=prediction)
        (event,) = await take(lines, 1)

        assert event.data["text"] == "No way."
        assert POLL_S < 1
    await served.ends


async def test_while_nothing_happens_a_comment_is_sent(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nobody takes the connection for dead."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    await service.say("call-42", "Ann", "We won!")
    async with serving(service) as served, following(served) as lines:
        received = await take(lines, 3)

    assert [each.name for each in received] == ["prediction", "still here", "still here"]


async def test_one_stream_too_many_is_told_to_come_again(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Those that are open take no request's room; one that is left can be opened again."""
    admission = Admission(requests=1, streams=2)
    async with start_service(tmp_path, Limits(), admission=admission) as service:
        await service.say("call-42", "Ann", "We won!")
        async with serving(service) as served:
            async with following(served) as one, following(served) as other:
                await take(one, 1)
                await take(other, 1)
                refused = await served.client.get(PATH)
                turn = await service.say("call-42", "Bo", "No way.")
                samples = await numbers(service)
            await until(lambda: not len(service.door.streams))

    assert problem(refused) == (503, "overloaded")
    assert turn.status_code == 201
    assert samples[at("erc_open_streams")] == 2
    assert samples[at("erc_rejections_total", reason="streams")] == 1


async def test_streams_end_as_soon_as_the_service_is_to_end(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, so that the client goes on elsewhere; the server does not wait for them."""
    monkeypatch.setattr(events, "HEARTBEAT_S", 10_000)
    await service.say("call-42", "Ann", "We won!")
    async with serving(service, grace_s=10_000) as served, following(served) as lines:
        await take(lines, 1)
        served.server.handle_exit(signal.SIGTERM, None)

        assert await read(lines) is None
        await asyncio.wait_for(asyncio.shield(served.ends), PATIENT_S)


async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    """It is given up after a while; nothing was made for it beyond what it did not take."""
    made = 0

    async def chunks() -> AsyncGenerator[bytes, None]:
        nonlocal made
        while True:
            made += 1
            yield b"x"

    async def receive() -> Message:
        raise AssertionError("somebody reads")

    async def send(message: Message) -> None:
        if made > 3:
            await asyncio.Event().wait()

    with pytest.raises(ClientLeft):
        await EventStream(chunks(), slow_s=0.05)({}, receive, send)

    assert made == 4


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (404, "dialogue-not-found")),
        ({"Accept": "application/json"}, (406, "not-acceptable")),
        ({"Accept": "text/*;q=0, */*"}, (406, "not-acceptable")),
        ({"Last-Event-ID": "yesterday"}, (422, "invalid-request")),
    ],
)
async def test_what_cannot_be_followed_is_refused(
    service: "Service", problem: Any, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    """As a problem, before any event."""
    assert problem(await service.client.get(PATH, headers=headers)) == expected


@pytest.mark.parametrize("known", ["1.1", "1.erased"])
async def test_query_that_does_not_count_is_checked_as_well(
    service: "Service", problem: Any, known: str
) -> None:
    """The header takes precedence over an id, not over what is none."""
    answer = await service.client.get(
        PATH, headers={"Last-Event-ID": known}, params={"after": "yesterday"}
    )

    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["parameter"] == "after"


async def test_a_stream_ends_where_the_database_does_not_answer(service: "Service") -> None:
    """The client comes back and is told so."""
    await service.say("call-42", "Ann", "We won!")
    async with serving(service) as served, following(served) as lines:
        await take(lines, 1)
        await service.lose_database()
        service.sessions.followers.notify("default", "call-42")

        assert await read(lines) is None
