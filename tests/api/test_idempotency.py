"""A request that is sent again under its key is answered again and not done again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from service.settings import Limits
from tests.api.serving import serving

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

SAID = {"speaker": "Ann", "text": "We won!", "label_space": "meld"}
TEAM = {"id": "team", "label_space": "meld", "label": "joy", "text": "Our team won!"}
BATCH = {"dialogues": [{"id": "a", "utterances": [{"speaker": "Ann", "text": "We won!"}]}]}

Send = Callable[["Service", str], Awaitable[httpx.Response]]


def sending(method: str, path: str, body: Any = None) -> Send:
    async def send(service: "Service", key: str) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return await service.client.request(method, path, json=body, headers=headers)

    return send


post = sending("POST", "/dialogues/call-42/utterances", SAID)
erase = sending("DELETE", "/dialogues/call-42")
add = sending("POST", "/demonstrations", {"demonstrations": [TEAM]})
remove = sending("DELETE", "/demonstrations/team")
score = sending("POST", "/batch", BATCH)


async def length(service: "Service") -> int:
    return len((await service.timeline("call-42"))["utterances"])


@pytest.mark.parametrize(
    ("before", "send"),
    [(None, post), (post, erase), (None, add), (add, remove), (None, score)],
    ids=["post", "erase", "add", "remove", "score"],
)
async def test_a_write_sent_again_is_answered_as_before(
    service: "Service", before: Send | None, send: Send
) -> None:
    """Status and body are the same, and it says that it is no new answer."""
    if before is not None:
        await before(service, "before")

    first = await send(service, "k-1")
    again = await send(service, "k-1")

    assert first.is_success, first.text
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers.get("content-type") == first.headers.get("content-type")
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


async def test_an_utterance_sent_again_is_stored_and_read_once(service: "Service") -> None:
    """Without a key, or with another one, it was said twice."""
    for _ in range(3):
        await post(service, "k-1")

    assert await length(service) == 1
    assert len(service.engine.prompts) == 1
    await post(service, "k-2")
    await service.client.post("/dialogues/call-42/utterances", json=SAID)
    assert await length(service) == 3


async def test_how_the_body_is_written_does_not_matter(service: "Service") -> None:
    """White space and the order of fields are a client library's affair."""
    await post(service, "k-1")

    again = await service.client.post(
        "/dialogues/call-42/utterances",
        content=b'{ "label_space":"meld", "text":"We won!", "speaker":"Ann" }',
        headers={"Idempotency-Key": "k-1", "Content-Type": "application/json"},
    )

    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    "other",
    [
        sending("POST", "/dialogues/call-42/utterances", SAID | {"text": "We lost."}),
        sending("POST", "/dialogues/call-42/utterances", SAID | {"role": "agent"}),
        sending("POST", "/dialogues/call-42/utterances", SAID | {"start": 1.5}),
        sending("POST", "/dialogues/call-43/utterances", SAID),
        erase,
        add,
        score,
    ],
    ids=["body", "role", "time", "path", "method", "route", "batch"],
)
async def test_a_key_that_comes_with_another_request_is_refused(
    service: "Service", problem: Any, other: Send
) -> None:
    """Nothing is done: the client has mixed its keys up."""
    await post(service, "k-1")

    assert problem(await other(service, "k-1")) == (409, "idempotency-key-reused")
    assert await length(service) == 1
    assert (await service.client.get("/dialogues/call-43")).status_code == 404


async def test_requests_with_one_key_at_once_are_done_once(service: "Service") -> None:
    """Those that come while the first is under way wait for its answer."""
    answers = await asyncio.gather(*(post(service, "k-1") for _ in range(8)))

    assert {answer.content for answer in answers} == {answers[0].content}
    assert sorted("idempotency-replayed" in a.headers for a in answers) == [False] + [True] * 7
    assert await length(service) == 1
    assert len(service.engine.prompts) == 1


async def test_a_failure_is_not_kept(service: "Service", problem: Any) -> None:
    """The retry under the same key is what the key is for."""
    service.engine.goes_away()
    assert problem(await post(service, "k-1")) == (503, "engine-unavailable")
    service.engine.comes_back()

    assert (await post(service, "k-1")).status_code == 201
    assert await length(service) == 1


async def test_an_answer_outlives_a_restart(start_service: "StartService", tmp_path: Path) -> None:
    """It lies in the database."""
    async with start_service(tmp_path, Limits()) as service:
        first = await post(service, "k-1")
    async with start_service(tmp_path, Limits()) as service:
        again = await post(service, "k-1")

        assert again.content == first.content
        assert await length(service) == 1


async def test_a_key_is_its_tenants_own(service: "Service") -> None:
    """Another's key neither answers nor refuses."""
    await post(service, "k-1")
    service.speak_for("two")

    other = await sending("POST", "/dialogues/theirs/utterances", SAID)(service, "k-1")

    assert other.status_code == 201
    assert "idempotency-replayed" not in other.headers


async def test_a_request_that_comes_again_after_the_erasure_begins_nothing_anew(
    service: "Service", problem: Any
) -> None:
    """What it was answered is erased with the dialogue; the answer to the erasure itself stays."""
    await post(service, "k-1")
    await erase(service, "k-2")

    assert problem(await post(service, "k-1")) == (410, "dialogue-erased")
    assert (await service.client.get("/dialogues/call-42")).status_code == 404
    assert (await erase(service, "k-2")).headers["idempotency-replayed"] == "true"
    await post(service, "k-3")
    assert await length(service) == 1


@pytest.mark.parametrize("key", [b"", b"a b", b"\x7f", b"x" * 256, "é".encode(), b"a\tb"])
@pytest.mark.parametrize("send", ["post", "remove"])
async def test_a_key_that_is_none_is_refused(
    service: "Service", problem: Any, key: bytes, send: str
) -> None:
    """1 to 255 visible ASCII characters; the answer names the header."""
    method, path, body = (
        ("POST", "/dialogues/call-42/utterances", SAID)
        if send == "post"
        else ("DELETE", "/demonstrations/team", None)
    )
    answer = await service.client.request(
        method, path, json=body, headers={b"Idempotency-Key": key}
    )

    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["parameter"] == "Idempotency-Key"


async def test_a_key_may_be_of_any_visible_character(service: "Service") -> None:
    """And as long as 255 of them."""
    every = "".join(map(chr, range(33, 127)))

    for key in (every, "x" * 255, "!"):
        assert (await post(service, key)).status_code == 201


async def test_a_demonstration_that_is_deleted_is_so_answered_though_the_client_had_left(
    service: "Service", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is kept with what was done."""
    await service.add_demonstration(id="flat-1", label_space="meld", label="joy", text="Hurray!")
    client_has_left = asyncio.Event()
    delete = service.store.delete

    async def slow(*which: Any) -> None:
        await delete(*which)
        client_has_left.set()
        await asyncio.sleep(0.3)

    monkeypatch.setattr(service.store, "delete", slow)
    async with serving(service) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        line = "DELETE /demonstrations/flat-1 HTTP/1.1"
        head = f"{line}\r\nHost: localhost\r\nIdempotency-Key: k-1\r\n\r\n"
        writer.write(head.encode())
        await client_has_left.wait()
        writer.close()
        again = await service.client.delete(
            "/demonstrations/flat-1", headers={"Idempotency-Key": "k-1"}
        )

    assert again.status_code == 204
    assert again.headers["idempotency-replayed"] == "true"
