"""Keys come and go while the service runs."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.access import keyring as module
from service.access.keyring import Keyring, is_loopback, open_keyring
from service.access.keys import KeysError, digest, new_key
from service.errors import QuotaExceeded, Unauthenticated
from tests.clock import until

OLD, NEW = new_key(), new_key()


def key(secret: str, name: str = "one", **more: Any) -> dict[str, Any]:
    made = {"id": name, "tenant": "acme", "scopes": ["read"], "sha256": digest(secret).hex()}
    return made | more


def write(file: Path, *keys: dict[str, Any]) -> Path:
    """Put a file in the place of another, as Kubernetes does with a changed secret."""
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps({"keys": list(keys)}))
    return unfinished.replace(file)


def spoil(file: Path, content: str | None) -> None:
    if content is None:
        file.unlink()
    else:
        file.write_text(content)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.json", key(OLD))


def is_known(ring: Keyring, secret: str) -> bool:
    try:
        ring.caller(secret)
    except Unauthenticated:
        return False
    return True


def test_only_the_key_itself_is_known(file: Path) -> None:
    """Neither another, nor its hash."""
    ring = Keyring(file)

    assert ring.caller(OLD).tenant == "acme"
    for other in (NEW, OLD[:-1], OLD + "A", OLD.upper(), digest(OLD).hex(), "", "\xff" * 50):
        assert not is_known(ring, other)


def test_a_key_is_refused_once_its_time_is_over(file: Path) -> None:
    """With the same words as an unknown one."""
    now = datetime.now(UTC)
    over = key(OLD, not_after=str(now - timedelta(seconds=1)))
    write(file, over, key(NEW, "two", not_after=str(now + timedelta(hours=1))))
    ring = Keyring(file)

    assert is_known(ring, NEW)
    with pytest.raises(Unauthenticated) as refused:
        ring.caller(OLD)
    with pytest.raises(Unauthenticated, match=f"^{refused.value}$"):
        ring.caller(new_key())


async def test_keys_are_rotated_without_a_restart(file: Path) -> None:
    """First both are good, then the new one alone."""
    ring = Keyring(file)

    write(file, key(OLD), key(NEW, "two"))
    await ring.look()
    assert (is_known(ring, OLD), is_known(ring, NEW)) == (True, True)

    write(file, key(NEW, "two"))
    await ring.look()
    assert (is_known(ring, OLD), is_known(ring, NEW)) == (False, True)


@pytest.mark.parametrize("content", ["", "{}", '{"keys": []}', None])
async def test_a_broken_file_changes_nothing_and_is_told_of_once(
    file: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    """An empty one is broken too: nobody locks everybody out by half a write."""
    ring = Keyring(file)
    spoil(file, content)

    for _ in range(3):
        await ring.look()

    assert is_known(ring, OLD)
    (record,) = (each for each in caplog.records if each.levelno == logging.ERROR)
    assert "the keys are not reloaded" in record.getMessage()

    write(file, key(NEW))
    await ring.look()
    assert (is_known(ring, OLD), is_known(ring, NEW)) == (False, True)


async def test_a_change_elsewhere_in_the_file_gives_nobody_a_quota_anew(file: Path) -> None:
    """Only a key that has changed itself begins anew."""
    limited = key(OLD, quota={"requests_per_s": 0.001})
    write(file, limited)
    ring = Keyring(file)
    ring.caller(OLD).spend_request()

    write(file, limited, key(NEW, "two"))
    await ring.look()

    with pytest.raises(QuotaExceeded):
        ring.caller(OLD).spend_request()


async def test_a_running_service_looks_by_itself(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a second."""
    assert module._LOOK_S == 1.0
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    ring = Keyring(file)
    watch = asyncio.create_task(ring.watch())

    write(file, key(NEW))
    await until(lambda: is_known(ring, NEW))

    watch.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_on_this_machine_alone_no_keys_are_needed(host: str) -> None:
    """To try it out."""
    assert is_loopback(host)
    assert open_keyring(None, host, allow_anonymous=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "", "example.org"])
def test_nobody_opens_the_service_to_all_by_oversight(host: str, file: Path) -> None:
    """What is to be done is in the message; anybody may ask where that is said to be meant."""
    with pytest.raises(KeysError, match=r"ERC_KEYS_FILE.*ERC_ALLOW_ANONYMOUS=true"):
        open_keyring(None, host, allow_anonymous=False)

    assert open_keyring(None, host, allow_anonymous=True) is None
    assert open_keyring(file, host, allow_anonymous=False) is not None


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"quota": {"requests_per_s": 1}}, True),
        ({"scopes": ["read", "write", "admin"]}, True),
        ({"not_after": str(datetime.now(UTC) + timedelta(hours=1))}, True),
        ({"not_after": str(datetime.now(UTC))}, False),
        ({"scopes": ["read"]}, False),
        ({"scopes": ["admin"]}, False),
        ({"tenant": "other"}, False),
        ({"sha256": digest(NEW).hex()}, False),
        (None, False),
    ],
)
async def test_a_caller_is_looked_at_again(
    file: Path, change: dict[str, Any] | None, good: bool
) -> None:
    """By the key they hold, not by its name: it must be good for all that it was good for."""
    entry = key(OLD, scopes=["read", "write"])
    write(file, entry)
    ring = Keyring(file)
    caller = ring.caller(OLD)
    ring.check(caller)

    write(file, key(NEW, "two") if change is None else entry | change)
    await ring.look()

    if good:
        ring.check(caller)
    else:
        with pytest.raises(Unauthenticated):
            ring.check(caller)


def test_a_caller_is_shown_without_what_finds_the_key(file: Path) -> None:
    """It is in no log."""
    shown = repr(Keyring(file).caller(OLD))

    assert digest(OLD).hex() not in shown
    assert "digest" not in shown


def open_to(file: Path, file_mode: int, folder_mode: int) -> None:
    file.chmod(file_mode)
    file.parent.chmod(folder_mode)


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "told"),
    [
        (0o600, 0o700, None),
        (0o644, 0o755, None),
        (0o664, 0o775, None),
        (0o646, 0o700, "write"),
        (0o600, 0o777, "replace"),
        (0o600, 0o1777, None),
    ],
)
async def test_a_file_that_anybody_may_write_is_told_of(
    file: Path, caplog: pytest.LogCaptureFixture, file_mode: int, folder_mode: int, told: str | None
) -> None:
    """At the start and when it changes; reading it gives nobody a key, so that is no matter."""
    open_to(file, file_mode, folder_mode)

    ring = Keyring(file)
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    caplog.clear()
    open_to(write(file, key(NEW)), file_mode, folder_mode)
    await ring.look()
    again = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]

    assert warnings == again
    assert len(warnings) == (told is not None)
    assert all(f"any user can {told} {file}" in each for each in warnings)
