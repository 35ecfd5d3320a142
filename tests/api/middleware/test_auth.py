"""Who gets in, and what they get to see."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.types import Message, Scope

from service.access.callers import caller_of
from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access
from service.errors import Overloaded
from service.sessions.jobs import JobState
from service.settings import Admission, Limits
from tests.api.middleware.test_admission import Held
from tests.api.numbers import at, numbers

if TYPE_CHECKING:
    from tests.api.conftest import Service, StartService

SAID = {"speaker": "Ann", "text": "We won!"}
BATCH = {"dialogues": [{"id": "a", "utterances": [SAID] * 3}]}
TEAM = {"id": "team", "label_space": "meld", "label": "joy", "text": "Our team won!"}

SECRETS = {
    name: new_key() for name in ("reader", "writer", "admin", "other", "limited", "talkative")
}
KEYS: tuple[dict[str, Any], ...] = (
    {"id": "reader", "tenant": "acme", "scopes": ["read"]},
    {"id": "writer", "tenant": "acme", "scopes": ["read", "write"]},
    {"id": "admin", "tenant": "acme", "scopes": ["admin"]},
    {"id": "other", "tenant": "other", "scopes": ["read", "write"]},
    {
        "id": "limited",
        "tenant": "acme",
        "scopes": ["read"],
        "quota": {"requests_per_s": 0.01, "burst": 2},
    },
    {
        "id": "talkative",
        "tenant": "acme",
        "scopes": ["read", "write"],
        "quota": {"utterances_per_min": 4, "batch_utterances": 3},
    },
)

Start = Callable[..., AbstractAsyncContextManager["Service"]]


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[name]}"}


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """Its quotas are not filled up again, however long a test takes."""
    monkeypatch.setattr("service.access.keyring.caller_of", lambda key: caller_of(key, lambda: 0.0))
    file = tmp_path / "keys.json"
    keys = [key | {"sha256": digest(SECRETS[key["id"]]).hex()} for key in KEYS]
    file.write_text(json.dumps({"keys": keys}))
    return Keyring(file)


@pytest.fixture
def start(start_service: "StartService", tmp_path: Path, keyring: Keyring) -> Start:
    @asynccontextmanager
    async def start(*, open_operations: bool = False) -> AsyncIterator["Service"]:
        access = Access(keyring, open_operations)
        async with start_service(tmp_path, Limits(), access=access) as service:
            yield service

    return start


@pytest.fixture
async def service(start: Start) -> AsyncIterator["Service"]:
    async with start() as service:
        yield service


async def ask(service: "Service", name: str, method: str, path: str, **more: Any) -> httpx.Response:
    return await service.client.request(method, path, headers=bearer(name), **more)


async def say(service: "Service", name: str, dialogue_id: str) -> httpx.Response:
    return await ask(service, name, "POST", f"/dialogues/{dialogue_id}/utterances", json=SAID)


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["Bearer"],
        ["Bearer "],
        [SECRETS["reader"]],
        [f"Basic {SECRETS['reader']}"],
        [f"Bearer {new_key()}"],
        [f"Bearer {SECRETS['reader']} {SECRETS['reader']}"],
        [f"Bearer {SECRETS['reader']}", f"Bearer {SECRETS['reader']}"],
        [f"Bearer {digest(SECRETS['reader']).hex()}"],
        [b"Bearer \xff\xfe"],
    ],
)
async def test_without_a_key_that_is_good_nobody_gets_in(
    service: "Service", problem: Any, given: list[str | bytes]
) -> None:
    """Not even to learn which paths there are."""
    headers = [(b"authorization", g if isinstance(g, bytes) else g.encode()) for g in given]
    for path in ("/dialogues/call-42", "/label-spaces", "/nothing"):
        answer = await service.client.get(path, headers=headers)

        assert problem(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"

    assert (await numbers_of(service))[at("erc_rejections_total", reason="key")] == 3


async def numbers_of(service: "Service") -> Any:
    service.client.headers.update(bearer("admin"))
    return await numbers(service)


@pytest.mark.parametrize("name", [None, "reader"])
async def test_the_body_of_a_request_that_is_refused_is_not_read(
    service: "Service", problem: Any, name: str | None
) -> None:
    """Neither without a key nor without the scope."""
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/dialogues/call-42/utterances",
        "raw_path": b"/dialogues/call-42/utterances",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", b"1000"),
        ],
        "state": dict(service.state),
    }
    if name is not None:
        scope["headers"].append((b"authorization", bearer(name)["Authorization"].encode()))
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("somebody reads")

    async def send(message: Message) -> None:
        sent.append(message)

    await service.app(scope, receive, send)

    assert sent[0]["status"] == (401 if name is None else 403)


async def test_a_key_is_for_its_scopes(service: "Service", problem: Any) -> None:
    """What is missing is named; a batch keeps nothing, so that reading is enough."""
    refused = await say(service, "reader", "call-42")

    assert problem(refused) == (403, "scope-missing")
    assert "'write'" in refused.json()["detail"]
    assert refused.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope", scope="write"'
    )
    assert (await say(service, "writer", "call-42")).status_code == 201
    assert (await ask(service, "reader", "GET", "/dialogues/call-42")).status_code == 200
    assert (await ask(service, "reader", "POST", "/batch", json=BATCH)).status_code == 200
    assert (await ask(service, "reader", "DELETE", "/dialogues/call-42")).status_code == 403
    assert (await ask(service, "admin", "DELETE", "/dialogues/call-42")).status_code == 204
    assert (await numbers_of(service))[at("erc_rejections_total", reason="scope")] == 2


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/dialogues/call-42", None),
        ("GET", "/dialogues/call-42/forecast?speaker=Ann", None),
        ("DELETE", "/dialogues/call-42", None),
        ("PUT", "/dialogues/call-42/utterances/0/label", {"label": "joy", "label_space": "meld"}),
        ("GET", "/demonstrations/team", None),
        ("DELETE", "/demonstrations/team", None),
    ],
)
async def test_what_is_another_tenants_is_as_if_it_were_not_there(
    service: "Service", method: str, path: str, body: Any
) -> None:
    """Status, headers and words are the same before and after the other tenant makes it."""

    async def asked() -> tuple[Any, ...]:
        answer = await ask(service, "other", method, path, json=body)
        told = {k: v for k, v in answer.json().items() if k != "request_id"}
        headers = {k: v for k, v in answer.headers.items() if k != "x-request-id"}
        return answer.status_code, told, headers

    absent = await asked()
    assert (await say(service, "writer", "call-42")).status_code == 201
    added = await ask(service, "writer", "POST", "/demonstrations", json={"demonstrations": [TEAM]})
    assert added.status_code == 201

    there = await asked()

    assert absent[0] == 404
    assert there == absent


async def test_two_tenants_have_a_dialogue_each_of_one_id(service: "Service") -> None:
    """And all keys of a tenant have the same one."""
    assert (await say(service, "writer", "call-42")).json()["index"] == 0
    assert (await say(service, "other", "call-42")).json()["index"] == 0
    assert (await say(service, "admin", "call-42")).json()["index"] == 1


async def test_what_is_everybodys_is_changed_by_an_admin_alone(
    service: "Service", problem: Any
) -> None:
    """Who says so: otherwise it is the tenant's own that is meant."""
    body = {"demonstrations": [TEAM]}
    path = "/demonstrations?shared=true"

    assert problem(await ask(service, "writer", "POST", path, json=body)) == (403, "scope-missing")
    assert (await ask(service, "admin", "POST", path, json=body)).status_code == 201

    assert (await ask(service, "other", "GET", "/demonstrations/team")).json() == TEAM
    one = "/demonstrations/team"
    for name in ("writer", "admin"):
        refused = await ask(service, name, "DELETE", one)
        assert problem(refused) == (403, "demonstration-shared")
    refused = await ask(service, "writer", "DELETE", f"{one}?shared=true")
    assert problem(refused) == (403, "scope-missing")
    assert (await ask(service, "admin", "DELETE", f"{one}?shared=true")).status_code == 204
    assert (await ask(service, "other", "GET", one)).status_code == 404
    again = await ask(service, "admin", "DELETE", f"{one}?shared=true")
    assert problem(again) == (404, "demonstration-not-found")


async def test_label_spaces_are_made_and_deleted_by_an_admin_alone(
    service: "Service", problem: Any
) -> None:
    """They are the tenant's, for all of its keys."""
    labels = [
        {"name": "fine", "of": ["neutral", "joy", "surprise"]},
        {"name": "upset", "of": ["anger", "disgust", "sadness", "fear"]},
    ]
    path, body = "/label-spaces/moods", {"derived_from": "meld", "labels": labels}

    for method, more in (("PUT", {"json": body}), ("DELETE", {})):
        refused = await ask(service, "writer", method, path, **more)
        assert problem(refused) == (403, "scope-missing")
    assert (await ask(service, "admin", "PUT", path, json=body)).status_code == 200
    assert (await ask(service, "writer", "GET", path)).status_code == 200
    assert problem(await ask(service, "other", "GET", path)) == (404, "label-space-not-found")
    assert (await ask(service, "admin", "DELETE", path)).status_code == 204


async def test_a_key_has_so_many_requests(service: "Service", problem: Any) -> None:
    """Each answer says how many are left, a refusal when to come again; nobody else is touched."""
    first = await ask(service, "limited", "GET", "/label-spaces")
    second = await ask(service, "limited", "GET", "/dialogues/nobody")
    third = await ask(service, "limited", "GET", "/label-spaces")

    assert [answer.status_code for answer in (first, second, third)] == [200, 404, 429]
    assert problem(third) == (429, "quota-exceeded")
    left = [answer.headers["ratelimit-remaining"] for answer in (first, second, third)]
    assert left == ["1", "0", "0"]
    assert first.headers["ratelimit-limit"] == "2"
    assert 90 <= int(third.headers["retry-after"]) <= 100
    assert 190 <= int(third.headers["ratelimit-reset"]) <= 200
    other = await ask(service, "reader", "GET", "/label-spaces")
    assert other.status_code == 200
    assert "ratelimit-limit" not in other.headers
    assert (await numbers_of(service))[at("erc_rejections_total", reason="quota")] == 1


async def test_a_key_has_so_many_utterances(service: "Service", problem: Any) -> None:
    """What is refused, or answered again without the model, costs nothing."""
    once = bearer("talkative") | {"Idempotency-Key": "first"}
    path = "/dialogues/call-42/utterances"
    for _ in range(5):
        response = await service.client.post(path, json=SAID, headers=once)
        assert response.status_code == 201
    assert (await ask(service, "talkative", "POST", "/batch", json=BATCH)).status_code == 200

    refused = await say(service, "talkative", "call-42")

    assert problem(refused) == (429, "quota-exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 15
    assert (
        len((await ask(service, "reader", "GET", "/dialogues/call-42")).json()["utterances"]) == 1
    )
    assert (await numbers_of(service))[at("erc_rejections_total", reason="quota")] == 1


async def test_a_key_may_have_smaller_batches_than_others(service: "Service", problem: Any) -> None:
    """One that could never be answered is not told to come again."""
    large = {"dialogues": [{"id": "a", "utterances": [SAID] * 4}]}

    refused = await ask(service, "talkative", "POST", "/batch", json=large)

    assert problem(refused) == (422, "invalid-request")
    assert "at most 3" in refused.json()["detail"]
    assert (await ask(service, "reader", "POST", "/batch", json=large)).status_code == 200


async def post_lines(
    service: "Service", name: str, dialogues: list[Any], **headers: str
) -> httpx.Response:
    content = b"\n".join(json.dumps(each).encode() for each in dialogues)
    headers |= {"Content-Type": "application/x-ndjson"} | bearer(name)
    return await service.client.post("/batch", content=content, headers=headers)


async def test_each_line_of_a_batch_counts_by_itself(service: "Service") -> None:
    """A broken one as one utterance; beyond the quota each is told when to come again."""
    answer = await post_lines(
        service,
        "talkative",
        [{"id": str(count), "utterances": [SAID] * count} for count in (2, 4, 1, 1, 4)],
    )

    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [each.get("error", {}).get("status") for each in rows] == [None, 422, None, 429, 429]
    assert "at most 3" in rows[1]["error"]["detail"]


async def test_whoever_may_only_read_has_no_answers_kept(service: "Service", problem: Any) -> None:
    """They would be there for a day; the same batch without a key is scored."""
    refused, taken = [
        await service.client.post(
            "/batch", json=BATCH, headers=bearer(name) | {"Idempotency-Key": "k"}
        )
        for name in ("reader", "writer")
    ]

    assert problem(refused) == (403, "scope-missing")
    assert 'scope="write"' in refused.headers["www-authenticate"]
    assert taken.status_code == 200
    assert (await ask(service, "reader", "POST", "/batch", json=BATCH)).status_code == 200


async def test_one_tenant_leaves_room_for_the_others(
    start_service: "StartService", tmp_path: Path, keyring: Keyring, problem: Any
) -> None:
    """Batches, other requests and streams: half of the room each."""
    admission = Admission(requests=2, batches=2, streams=2, utterances=8)
    async with start_service(
        tmp_path, Limits(), access=Access(keyring), admission=admission
    ) as service:
        held = Held(service)
        begun = [
            asyncio.create_task(ask(service, "writer", "POST", "/batch", json=BATCH)),
            asyncio.create_task(say(service, "writer", "call-42")),
        ]
        await held.reads(4)

        batch = await ask(service, "reader", "POST", "/batch", json=BATCH)
        turn = await say(service, "writer", "call-43")
        details = {problem(each): each.json()["detail"] for each in (batch, turn)}
        assert list(details) == [(503, "overloaded")]
        assert all("for your tenant" in detail for detail in details.values())
        assert batch.headers["retry-after"] == "1"

        begun += [
            asyncio.create_task(ask(service, "other", "POST", "/batch", json=BATCH)),
            asyncio.create_task(say(service, "other", "call-42")),
        ]
        await held.reads(6)
        held.let_go.set()
        assert [(await each).status_code for each in begun] == [200, 201, 200, 201]

        streams = service.door.streams
        with streams.open("acme"), streams.open("other"), pytest.raises(Overloaded):
            streams.open("third").__enter__()
        rejected = await numbers_of(service)
        assert rejected[at("erc_rejections_total", reason="tenant")] == 2


async def test_a_job_is_a_write(service: "Service", problem: Any) -> None:
    """What it is given is kept; whoever may read may see how far it is."""
    later = {"Prefer": "respond-async"}
    dialogues = BATCH["dialogues"]
    for refused in (
        await service.client.post("/batch", json=BATCH, headers=later | bearer("reader")),
        await post_lines(service, "reader", dialogues, **later),
    ):
        assert problem(refused) == (403, "scope-missing")

    where = (await post_lines(service, "writer", dialogues, **later)).headers["location"]

    assert (await ask(service, "reader", "GET", where)).status_code == 200
    assert (await ask(service, "reader", "GET", f"{where}/results")).status_code == 200
    assert problem(await ask(service, "reader", "DELETE", where)) == (403, "scope-missing")
    assert problem(await ask(service, "other", "GET", where)) == (404, "job-not-found")


async def test_a_job_counts_as_what_it_holds(service: "Service", problem: Any) -> None:
    """It is taken as a whole or not at all, and costs nothing then."""
    later = {"Prefer": "respond-async"}
    two = [{"id": "a", "utterances": [SAID] * 2}]

    never = await post_lines(service, "talkative", two * 2, **later)
    assert problem(never) == (422, "invalid-request")
    assert (await service.services.jobs.counts())[JobState.QUEUED] == 0

    for _ in range(2):
        taken = await post_lines(service, "talkative", two, **later)
        assert taken.status_code == 202
    refused = await service.client.post(
        "/batch", json={"dialogues": two}, headers=later | bearer("talkative")
    )
    assert problem(refused) == (429, "quota-exceeded")
    assert (await service.services.jobs.counts())[JobState.QUEUED] == 2


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/docs/start.js", "/openapi.json"])
async def test_operations_are_for_an_admin_or_open(start: Start, problem: Any, path: str) -> None:
    """As is set; probes are open always, and so is what refusals mean."""
    async with start() as service:
        assert problem(await service.client.get(path)) == (401, "unauthenticated")
        assert problem(await ask(service, "writer", "GET", path)) == (403, "scope-missing")
        assert (await ask(service, "admin", "GET", path)).status_code == 200
        for probe in ("/livez", "/readyz", "/problems", "/problems/unauthenticated"):
            assert (await service.client.get(probe)).status_code == 200
    async with start(open_operations=True) as service:
        assert (await service.client.get(path)).status_code == 200
