"""Rules come and go while the service runs."""

import asyncio
import logging
from pathlib import Path

import pytest

from service.rules import rulebook as module
from service.rules.rulebook import Rulebook
from tests.clock import until
from tests.rules.written import ENDPOINT, RULE, SECRET, SPACES, write


def names(rulebook: Rulebook) -> list[str]:
    return [rule.name for rule in rulebook.rules.rules]


async def test_a_change_is_applied_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    rulebook = Rulebook(write(tmp_path, RULE + ENDPOINT), SPACES)
    watching = asyncio.create_task(rulebook.watch())

    write(tmp_path, RULE.replace("angry", "cross") + RULE + ENDPOINT)

    await until(lambda: names(rulebook) == ["cross", "angry"])
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


@pytest.mark.parametrize("content", ["", RULE, RULE.replace("0.6", "6") + ENDPOINT, None])
async def test_a_broken_file_changes_nothing_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    file = write(tmp_path, RULE + ENDPOINT)
    rulebook = Rulebook(file, SPACES)
    if content is None:
        file.unlink()
    else:
        file.write_text(content)

    for _ in range(3):
        await rulebook.look()

    assert names(rulebook) == ["angry"]
    (record,) = (each for each in caplog.records if each.levelno == logging.ERROR)
    assert record.getMessage().startswith("the rules are not reloaded: ")
    assert "rules.toml" in record.getMessage()
    write(tmp_path, RULE.replace("angry", "cross") + ENDPOINT)
    await rulebook.look()
    assert names(rulebook) == ["cross"]


async def test_a_secret_in_a_file_of_its_own_can_change(tmp_path: Path) -> None:
    secret_file = tmp_path / "crm.secret"
    secret_file.write_text(SECRET)
    endpoint = ENDPOINT.replace(f'secret = "{SECRET}"', 'secret_file = "crm.secret"')
    rulebook = Rulebook(write(tmp_path, RULE + endpoint), SPACES)
    before = rulebook.rules.endpoints["crm"].secret

    secret_file.write_text("whsec_" + "QUFB" * 8)
    await rulebook.look()

    assert rulebook.rules.endpoints["crm"].secret == b"AAA" * 8 != before
