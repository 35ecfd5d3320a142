"""What the application makes of its settings."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import app as wiring
from service.access.keys import KeysError, digest, new_key
from service.decoding.bundle import BundleError
from service.recognition_parts import Parts
from service.rules.rule_files import RulesError
from service.settings import Database, Demonstrations, Rules, Settings
from tests.api.conftest import Service
from tests.clock import PATIENT_S, until
from tests.rules.receiver import Receiver, receiving
from tests.rules.written import RULE


@pytest.fixture
def open_parts(monkeypatch: pytest.MonkeyPatch, service: Service) -> None:
    """Have the application start with the parts of a running service."""
    of = service.services
    recognizer, engine = of.answerer.recognizer, service.watched
    spaces = (of.label_spaces, of.answerer.derived)
    parts = Parts(*spaces, recognizer.bundle, of.encoder, of.store, engine, recognizer, "float32")

    @asynccontextmanager
    async def opened(*arguments: Any, **named: Any) -> AsyncIterator[Parts]:
        yield parts

    monkeypatch.setattr(wiring, "open_parts", opened)


@pytest.mark.parametrize("shown", [True, False])
async def test_the_settings_say_whether_prompts_show_demonstrations(
    shown: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The start ends where the parts would be opened."""
    request: dict[str, Any] = {}

    @asynccontextmanager
    async def parts(*arguments: Any, **named: Any) -> AsyncIterator[None]:
        request.update(named)
        raise BundleError("no further")
        yield

    monkeypatch.setattr(wiring, "open_parts", parts)
    settings = Settings(
        database=Database(url=f"sqlite:///{tmp_path}/erc.sqlite3"),
        demonstrations=Demonstrations(shown=shown),
    )
    app = wiring.create_app(settings, lambda _: None, lambda _: None).api

    with pytest.raises(BundleError, match="no further"):
        async with app.router.lifespan_context(app):
            pass

    assert request["demonstrations"] is shown


@pytest.mark.usefixtures("open_parts")
async def test_the_collector_passes_over_what_a_start_leaves(tmp_path: Path) -> None:
    """Hundreds of thousands of objects of libraries, which would keep the event loop waiting."""
    settings = Settings(database=Database(url=f"sqlite:///{tmp_path}/started.sqlite3"))
    app = wiring.create_app(settings, lambda _: None, lambda _: None).api
    gc.unfreeze()

    async with app.router.lifespan_context(app):
        left = gc.get_freeze_count()

    gc.unfreeze()
    assert left > 100_000


def test_the_service_is_not_opened_to_other_machines_by_oversight() -> None:
    """Before anything else is opened."""
    with pytest.raises(KeysError, match="ERC_ALLOW_ANONYMOUS"):
        wiring.create_app(Settings(host="0.0.0.0"))

    wiring.create_app(Settings(host="0.0.0.0", allow_anonymous=True))


@pytest.mark.parametrize(
    ("host", "is_open", "status"),
    [
        ("127.0.0.1", None, 200),
        ("127.0.0.1", False, 401),
        ("0.0.0.0", None, 401),
        ("0.0.0.0", True, 200),
    ],
)
async def test_documentation_needs_a_key_where_other_machines_can_reach_it(
    tmp_path: Path, host: str, is_open: bool | None, status: int
) -> None:
    """Unless the settings say otherwise."""
    file = tmp_path / "keys.json"
    write_keys(file, new_key())
    app = wiring.create_app(Settings(host=host, keys_file=file, open_operations=is_open)).api

    assert await asked(app, "/openapi.json") == status


@pytest.mark.usefixtures("open_parts")
async def test_a_running_service_takes_up_new_keys(tmp_path: Path) -> None:
    """Without a restart, and drops those that are gone."""
    old, new = new_key(), new_key()
    file = tmp_path / "keys.json"
    write_keys(file, old)
    settings = Settings(
        database=Database(url=f"sqlite:///{tmp_path}/started.sqlite3"),
        keys_file=file,
    )
    app = wiring.create_app(settings, lambda _: None, lambda _: None).api

    async with app.router.lifespan_context(app):
        assert (await asked(app, "/nothing", old), await asked(app, "/nothing", new)) == (404, 401)
        write_keys(file, new)
        async with asyncio.timeout(PATIENT_S):
            while await asked(app, "/nothing", new) != 404:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        assert await asked(app, "/nothing", old) == 401

    gc.unfreeze()


@pytest.mark.usefixtures("open_parts")
async def test_a_running_service_tells_of_matches_and_takes_up_new_rules(
    tmp_path: Path, service: Service
) -> None:
    """By their file alone; what the engine predicts, with 0.8, is MELD's first label."""
    file = tmp_path / "rules.toml"
    rule = RULE.replace('"anger"', '"neutral"')
    settings = Settings(
        database=Database(url=f"sqlite:///{tmp_path}/started.sqlite3"), rules=Rules(file=file)
    )
    async with receiving() as receiver:
        file.write_text(rule + receiver.entry())
        app = wiring.create_app(settings, lambda _: None, lambda _: None).api
        async with app.router.lifespan_context(app) as state:
            await say(app, state, "call-1")
            await until(lambda: len(receiver.received) == 1)
            file.write_text(rule.replace("angry", "calm") + receiver.entry())
            number = count(2)
            async with asyncio.timeout(PATIENT_S):
                while told_by(receiver)[-1] != "calm":
                    await say(app, state, f"call-{next(number)}")
                    await asyncio.sleep(0.1)

    assert told_by(receiver)[0] == "angry"
    _, body = receiver.received[0]
    assert body["data"]["link"] == "/dialogues/call-1?limit=1"
    assert "text" not in body["data"]
    gc.unfreeze()


def told_by(receiver: Receiver) -> list[str]:
    return [body["data"]["rule"] for _, body in receiver.received]


async def say(app: Any, state: Any, dialogue_id: str) -> None:
    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"state": dict(state)}, receive, send)

    transport = httpx.ASGITransport(with_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        utterance = {"speaker": "Ann", "text": "We won!", "label_space": "meld"}
        answer = await client.post(f"/dialogues/{dialogue_id}/utterances", json=utterance)
        assert answer.status_code == 201, answer.text


def test_a_broken_file_of_rules_is_told_of_before_anything_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULE)

    with pytest.raises(RulesError, match=r"rules\.toml: endpoints: Field required"):
        wiring.create_app(Settings(rules=Rules(file=file)))


def write_keys(file: Path, *keys: str) -> None:
    entries = [
        {"id": f"k{n}", "tenant": "acme", "scopes": ["read"], "sha256": digest(key).hex()}
        for n, key in enumerate(keys)
    ]
    file.write_text(json.dumps({"keys": entries}))


async def asked(app: Any, path: str, key: str | None = None) -> int:
    """The status that a caller with a key is answered with."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get(path, headers=headers)).status_code
