"""What clients meet when there is too much to do, too little time, or they leave."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.types import Message, Scope

from service.decoding.engine import Reading
from service.priority import Priority
from service.settings import Admission, Limits
from tests.api.numbers import at, numbers
from tests.clock import PATIENT_S, until

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

SAID = {"speaker": "Ann", "text": "We won!"}
BATCH = {"dialogues": [{"id": "a", "utterances": [SAID] * 3}]}


class Held:
    """Keeps every read of a scripted engine waiting until it is let go."""

    def __init__(self, service: "Service") -> None:
        self.reading = 0
        self.let_go = asyncio.Event()
        self._read = service.engine.read
        service.engine.read = self.read  # type: ignore[method-assign]  # of this object alone

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        self.reading += 1
        try:
            await self.let_go.wait()
        finally:
            self.reading -= 1
        return await self._read(prompt, candidates, priority)

    async def reads(self, count: int) -> None:
        """Return when so many prompts are under way."""
        await until(lambda: self.reading == count)


class Leaving:
    """A client that sends a request and closes the connection when it is told to."""

    def __init__(self, service: "Service", method: str, path: str, body: Any) -> None:
        self.leave = asyncio.Event()
        self.status: int | None = None
        content = json.dumps(body).encode()
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(content)).encode()),
            ],
            "state": dict(service.state),
        }
        messages: Iterator[Message] = iter(
            [{"type": "http.request", "body": content, "more_body": False}]
        )

        async def receive() -> Message:
            for message in messages:
                return message
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]

        self.answered = asyncio.create_task(service.app(scope, receive, send))


async def test_one_request_too_many_is_told_to_come_again(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """A batch takes no turn's room, nor the other way round; probes are always answered."""
    admission = Admission(requests=1, batches=1, utterances=8)
    async with start_service(tmp_path, Limits(), admission=admission) as service:
        held = Held(service)
        turn = asyncio.create_task(service.say("call-42", **SAID))
        batch = asyncio.create_task(service.client.post("/batch", json=BATCH))
        await held.reads(4)

        for refused in (
            await service.say("call-43", **SAID),
            await service.client.get("/dialogues/call-43"),
            await service.client.post("/batch", json=BATCH),
        ):
            assert problem(refused) == (503, "overloaded")
        samples = await numbers(service)
        assert (await service.client.get("/livez")).status_code == 200
        held.let_go.set()

        assert ((await turn).status_code, (await batch).status_code) == (201, 200)
        assert (await service.say("call-43", **SAID)).status_code == 201
        assert samples[at("erc_requests_in_flight", priority="interactive")] == 1
        assert samples[at("erc_requests_in_flight", priority="batch")] == 1
        assert samples[at("erc_rejections_total", reason="requests")] == 3


async def test_utterances_beyond_the_queue_are_refused(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Eight are under way, two wait."""
    async with start_service(
        tmp_path, Limits(), admission=Admission(queue_length=2, utterances=8)
    ) as service:
        held = Held(service)
        turns = [asyncio.create_task(service.say(f"call-{n}", **SAID)) for n in range(10)]
        await held.reads(8)
        await until(lambda: service.places.waiting(Priority.INTERACTIVE) == 2)

        refused = await service.say("one-more", **SAID)
        held.let_go.set()

        assert problem(refused) == (503, "overloaded")
        assert {turn.status_code for turn in await asyncio.gather(*turns)} == {201}


async def test_an_answer_that_is_late_is_none_and_leaves_no_trace(
    service: "Service", problem: Any
) -> None:
    """The engine has the place free again, and the utterance is not stored."""
    held = Held(service)

    late = await service.client.post(
        "/dialogues/call-42/utterances", json=SAID, headers={"Prefer": "respond-async, wait=1"}
    )

    assert problem(late) == (504, "deadline-passed")
    await held.reads(0)
    assert (await service.client.get("/dialogues/call-42")).status_code == 404
    reason = at("erc_rejections_total", reason="deadline")
    assert (await numbers(service))[reason] == 1


async def test_an_answer_says_which_wait_it_kept_to(service: "Service") -> None:
    """As RFC 7240 has it."""
    answer = await service.client.get("/label-spaces", headers={"Prefer": "wait=5"})

    assert answer.headers["preference-applied"] == "wait=5"


@pytest.mark.parametrize(
    ("method", "path", "body", "reads"),
    [
        ("POST", "/dialogues/call-42/utterances", SAID, 1),
        ("POST", "/batch", BATCH, 3),
        ("POST", "/transcripts", BATCH["dialogues"], 3),
    ],
    ids=["turn", "batch", "transcript"],
)
async def test_a_client_that_leaves_frees_its_places(
    service: "Service", method: str, path: str, body: Any, reads: int
) -> None:
    """In the engine and in the queue; nothing is stored for it."""
    held = Held(service)
    client = Leaving(service, method, path, body)
    await held.reads(reads)

    client.leave.set()
    await asyncio.wait_for(client.answered, PATIENT_S)

    assert held.reading == 0
    assert client.status == 499
    assert (await service.client.get("/dialogues/call-42")).status_code == 404
    samples = await numbers(service)
    assert samples[at("erc_rejections_total", reason="client_left")] == 1
    assert samples[at("erc_requests_in_flight", priority="interactive")] == 0


async def test_an_utterance_that_is_being_stored_is_stored_though_its_client_leaves(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes back finds it."""
    storing, stored = asyncio.Event(), asyncio.Event()
    append = type(service.sessions).append

    async def slow(*arguments: Any, **named: Any) -> Any:
        storing.set()
        await stored.wait()
        return await append(*arguments, **named)

    monkeypatch.setattr(type(service.sessions), "append", slow)
    client = Leaving(service, "POST", "/dialogues/call-42/utterances", SAID)
    await asyncio.wait_for(storing.wait(), PATIENT_S)

    client.leave.set()
    await asyncio.sleep(0.05)
    stored.set()
    await asyncio.wait_for(client.answered, PATIENT_S)

    timeline = await service.timeline("call-42")
    assert [each["text"] for each in timeline["utterances"]] == ["We won!"]


async def test_a_service_that_is_about_to_end_refuses_and_closes_the_connection(
    service: "Service", problem: Any
) -> None:
    """What is under way is answered; the next request is another process's."""
    held = Held(service)
    turn = asyncio.create_task(service.say("call-42", **SAID))
    await held.reads(1)

    service.door.draining = True
    refused: httpx.Response = await service.say("call-43", **SAID)
    held.let_go.set()

    assert problem(refused) == (503, "shutting-down")
    assert refused.headers["connection"] == "close"
    assert (await turn).status_code == 201
