"""What people say and the keys they use stand in no log and in no metric."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from service.access.keyring import Keyring
from service.access.keys import digest, new_key
from service.api.middleware.auth import Access
from service.observability.correlation import Correlation
from service.observability.logging import log_lost_errors, log_to
from service.settings import Limits

if TYPE_CHECKING:
    from tests.api.conftest import StartService

MARK = "xyzzy-words-nobody-else-says"
KEY = f"erc_{MARK}{new_key()}"
WRONG = f"erc_{MARK}{new_key()}"
SAID = {"speaker": MARK, "text": f"I say {MARK}.", "description": MARK, "role": MARK}


@pytest.fixture(params=["text", "json"])
def logged(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """All that the process logs at the usual level, as `instructerc serve` has it written."""
    stream = io.StringIO()
    root = logging.getLogger()
    level = root.level
    handler = log_to(stream, "info", Correlation(None) if request.param == "json" else None)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def keyring(folder: Path) -> Keyring:
    file = folder / "keys.json"
    key = {
        "id": "one",
        "tenant": "acme",
        "scopes": ["admin"],
        "sha256": digest(KEY).hex(),
        "quota": {"utterances_per_min": 60},
    }
    file.write_text(json.dumps({"keys": [key]}))
    return Keyring(file)


async def test_nothing_that_people_say_and_no_key_is_logged_or_counted(
    start_service: "StartService", tmp_path: Path, logged: io.StringIO
) -> None:
    """Neither when all is well nor on any way to an error, foreseen or not."""
    access = Access(keyring(tmp_path), open_operations=False)
    async with start_service(tmp_path, Limits(), access=access) as service:
        log_lost_errors(asyncio.get_running_loop())
        client, statuses = service.client, []
        right = {"Authorization": f"Bearer {KEY}"}

        async def ask(method: str, path: str, **more: Any) -> None:
            headers = right | more.pop("headers", {})
            answer = await client.request(method, path, headers=headers, **more)
            statuses.append(answer.status_code)

        path = f"/dialogues/{MARK}/utterances"
        shown = {"id": MARK, "label_space": "meld", "label": "joy", "text": MARK}
        batch = {"dialogues": [{"id": MARK, "utterances": [SAID]}]}

        async def ask_everything() -> None:
            await ask("POST", path, json=SAID)
            await ask("POST", path, json=SAID, headers={"Idempotency-Key": MARK})
            await ask("GET", f"/dialogues/{MARK}")
            await ask("GET", f"/dialogues/{MARK}/forecast", params={"speaker": MARK})
            await ask("POST", "/batch", json=batch)
            await ask("POST", "/transcripts", json=batch["dialogues"][0], params={"name": MARK})
            await ask("POST", "/demonstrations", json={"demonstrations": [shown]})
            await ask("PUT", f"{path}/0/label", json={"label": "joy", "label_space": "meld"})
            await ask("GET", "/utterances")
            await ask("GET", "/corrections", params={"label_space": "meld"})
            await ask("GET", f"/demonstrations/{MARK}")
            await ask("DELETE", f"/demonstrations/{MARK}")

        await ask_everything()
        for wrong in (WRONG, f"{KEY} ", KEY * 2):
            await ask("POST", path, json=SAID, headers={"Authorization": f"Bearer {wrong}x"})
        for body in (
            SAID | {"text": MARK * 1_000},
            SAID | {"text": [MARK]},
            SAID | {"role": MARK * 10},
            SAID | {"start": MARK},
            SAID | {"label_space": MARK},
            SAID | {MARK: MARK},
            {"dialogues": MARK},
            [MARK],
            MARK,
        ):
            await ask("POST", path, json=body)
            await ask("POST", "/batch", json=body)
            await ask("POST", "/transcripts", json=body)
            await ask("POST", "/demonstrations", json=body)
        await ask("POST", path, content=f'{{"text": "{MARK}')
        await ask("POST", path, content=f'{{"text": "{MARK}', headers={"Content-Type": "text/json"})
        await ask("POST", path, json=SAID, headers={"Idempotency-Key": f"{MARK} {MARK}"})
        await ask("POST", path, json=SAID, headers={"If-Match": '"1-1"'})
        await ask("POST", path, json=SAID | {"text": MARK * 100_000})
        await ask("GET", f"/{MARK}")
        await ask("GET", "/utterances", params={"cursor": MARK, "label_space": MARK})
        await ask("GET", "/corrections", params={"updated_since": MARK, "label_space": MARK})
        await ask("BREW", path)
        await ask("POST", "/batch", json={"dialogues": [batch["dialogues"][0]] * 2})

        for failure in unforeseen():
            service.engine.failure = failure
            await ask_everything()
        service.engine.goes_away()
        await ask_everything()
        service.engine.comes_back()
        lost = asyncio.get_running_loop().create_future()
        lost.set_exception(RuntimeError(MARK))
        del lost
        await service.lose_database()
        await ask_everything()
        await service.lose_demonstrations()
        await ask_everything()
        metrics = await client.get("/metrics", headers=right)

    log_text = logged.getvalue()
    assert {200, 201, 204, 401, 404, 412, 413, 415, 422, 500, 503} <= set(statuses)
    assert "Traceback" in log_text
    assert "builtins.RuntimeError" in log_text
    assert "unhandled exception in a background task" in log_text
    assert metrics.status_code == 200
    for whole in (log_text, metrics.text):
        for secret in (MARK, KEY, WRONG, digest(KEY).hex()):
            assert secret not in whole


def unforeseen() -> Iterator[Exception]:
    """Errors that repeat what they were given, alone, as causes and in groups."""

    class Words(BaseModel):
        text: int

    try:
        Words(text=MARK)
    except ValueError as error:
        yield error
        caused = RuntimeError("failed on %s" % MARK)  # noqa: UP031
        caused.__cause__ = error
        yield caused
        yield ExceptionGroup(MARK, [error, caused])
    yield KeyError(MARK)
    yield UnicodeEncodeError("ascii", MARK, 0, 1, MARK)


def test_at_debug_an_error_says_all_it_has_to_say() -> None:
    """It is for development."""
    stream = io.StringIO()
    root = logging.getLogger()
    level = root.level
    handler = log_to(stream, "debug")
    try:
        raise RuntimeError(MARK)
    except RuntimeError:
        root.error("it failed", exc_info=sys.exc_info())
    finally:
        root.removeHandler(handler)
        root.setLevel(level)

    assert MARK in stream.getvalue()
