"""What is kept of one tenant has an end."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from service.settings import Admission, Limits

if TYPE_CHECKING:
    from tests.api.conftest import StartService

FEW = Limits(dialogue_utterances=2, answers=2, demonstrations=2)


async def test_a_dialogue_has_so_many_utterances(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """One that is full can be read, corrected and erased; a repeated request is answered."""
    async with start_service(tmp_path, FEW) as service:
        await service.say("call-42", "Ann", "One.")
        path, turn = "/dialogues/call-42/utterances", {"speaker": "Ann", "text": "Two."}
        headers = {"Idempotency-Key": "k-1"}
        second = await service.client.post(path, json=turn, headers=headers)

        assert problem(await service.say("call-42", "Ann", "Three.")) == (409, "dialogue-full")
        again = await service.client.post(path, json=turn, headers=headers)
        assert (again.status_code, again.json()) == (201, second.json())
        assert len((await service.timeline("call-42"))["utterances"]) == 2
        assert (await service.client.delete("/dialogues/call-42")).status_code == 204
        assert (await service.say("call-42", "Ann", "Anew.")).status_code == 201


async def test_a_tenant_has_so_many_demonstrations(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """Corrections are counted with them, and can be changed; another tenant's are not counted."""
    async with start_service(tmp_path, FEW) as service:
        await service.say("call-42", "Ann", "We won!")
        await service.say("call-42", "Ann", "At last.")
        path, joy = "/dialogues/call-42/utterances/0/label", {"label": "joy", "label_space": "meld"}
        added = {"label_space": "meld", "label": "joy", "text": "We got the flat!"}
        await service.add_demonstration(**added)
        assert (await service.client.put(path, json=joy)).status_code == 200

        more = {"demonstrations": [added | {"text": "And a car!"}]}
        answer = await service.client.post("/demonstrations", json=more)
        assert problem(answer) == (429, "too-many-demonstrations")
        assert (await service.client.put(path, json=joy | {"label": "fear"})).status_code == 200
        answer = await service.client.put(path.replace("/0/", "/1/"), json=joy)
        assert problem(answer) == (429, "too-many-demonstrations")
        service.speak_for("two")
        assert (await service.client.post("/demonstrations", json=more)).status_code == 201


async def test_a_tenant_has_so_many_answers_kept(
    start_service: "StartService", tmp_path: Path, problem: Any
) -> None:
    """What is asked without a key is done all the same."""
    async with start_service(tmp_path, FEW) as service:
        answers = [
            await service.client.post(
                f"/dialogues/d-{n}/utterances",
                json={"speaker": "Ann", "text": "Hi."},
                headers={"Idempotency-Key": f"k-{n}"},
            )
            for n in range(3)
        ]

        assert [each.status_code for each in answers[:2]] == [201, 201]
        assert problem(answers[2]) == (429, "too-many-answers")
        assert (await service.say("d-2", "Ann", "Hi.")).status_code == 201


async def test_requests_that_come_together_do_not_pass_the_ceilings(
    start_service: "StartService", tmp_path: Path
) -> None:
    """What is being added counts before it is there; what was refused leaves its room."""
    async with start_service(tmp_path, FEW, admission=Admission(batches=50)) as service:

        def keyed(n: int) -> Awaitable[httpx.Response]:
            turn = {"speaker": "Ann", "text": "Hi."}
            key = {"Idempotency-Key": f"k-{n}"}
            return service.client.post(f"/dialogues/d-{n}/utterances", json=turn, headers=key)

        def added(n: int) -> Awaitable[httpx.Response]:
            one = {"label_space": "meld", "label": "joy", "text": f"Number {n}!"}
            return service.client.post("/demonstrations", json={"demonstrations": [one]})

        for each in (keyed, added):
            answers = await asyncio.gather(*map(each, range(6)))
            assert sorted(answer.status_code for answer in answers) == [201, 201, *[429] * 4]
        assert await service.store.count(tenant="default") == 2
        (first, *_) = (await service.client.get("/demonstrations")).json()["demonstrations"]
        await service.client.delete(f"/demonstrations/{first['id']}")
        assert (await added(7)).status_code == 201
