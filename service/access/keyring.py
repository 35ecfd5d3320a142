"""The valid keys; the key file is read again when it changes."""

import asyncio
import hmac
import logging
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from service.access.callers import Caller, caller_of
from service.access.keys import Key, KeysError, digest, read_keys
from service.errors import Unauthenticated
from service.files import stamp_of

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_NOT_VALID = "the key is unknown or no longer valid"


@dataclass(frozen=True, slots=True)
class _Held:
    key: Key
    digest: bytes
    caller: Caller


class Keyring:
    """The keys of a file. Its memory depends on the number of keys, not of callers."""

    def __init__(self, file: Path) -> None:
        """Read the keys.

        Raises:
            KeysError: the file cannot be read, or is invalid.
        """
        self._file = file
        self._stamp = stamp_of(file)
        self._held: Mapping[bytes, _Held] = _take_up(read_keys(file), {})
        _warn_of_writers(file)

    def caller(self, key: str) -> Caller:
        """The holder of a key.

        Raises:
            Unauthenticated: the key is unknown or expired.
        """
        return self._caller(digest(key))

    def check(self, caller: Caller) -> None:
        """Refuse a caller whose key has lost any of its rights.

        Raises:
            Unauthenticated: the key is removed, expired, another tenant's, or lacks a scope now.
        """
        current = self._caller(caller.digest)
        if current.tenant != caller.tenant or not caller.scopes <= current.scopes:
            raise Unauthenticated(_NOT_VALID)

    def _caller(self, key_digest: bytes) -> Caller:
        # A lookup's timing depends on the hash, whose bits no client can choose.
        held = self._held.get(key_digest)
        if (
            held is None
            or not hmac.compare_digest(held.digest, key_digest)
            or (held.key.not_after is not None and held.key.not_after <= datetime.now(UTC))
        ):
            raise Unauthenticated(_NOT_VALID)
        return held.caller

    async def watch(self) -> None:
        """Apply changes of the file until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Load the file's keys if it has changed: all, or none if it is invalid."""
        stamp = await asyncio.to_thread(stamp_of, self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # also of an invalid file, which is reported once
        try:
            keys = await asyncio.to_thread(read_keys, self._file)
        except KeysError as error:
            log.error("the keys are not reloaded: %s", error)
            return
        self._held = _take_up(keys, self._held)
        log.info("%d keys read from %s", len(keys), self._file)
        _warn_of_writers(self._file)


def open_keyring(file: Path | None, host: str, *, allow_anonymous: bool) -> Keyring | None:
    """The keys of a file; None if there is no file, and anybody may do everything.

    Args:
        host: the address that the service will listen on.
        allow_anonymous: allow this on any address.

    Raises:
        KeysError: the file is invalid; or there is none, and other machines can connect.
    """
    if file is not None:
        return Keyring(file)
    if is_loopback(host) or allow_anonymous:
        return None
    raise KeysError(
        f"other machines can reach ERC_HOST={host}, and there are no keys: set ERC_KEYS_FILE "
        "(`instructerc keys new` makes a key), or ERC_ALLOW_ANONYMOUS=true if anybody may use "
        "the service"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # another name, which may resolve to any address
        return False


def _take_up(keys: tuple[Key, ...], before: Mapping[bytes, _Held]) -> Mapping[bytes, _Held]:
    # An unchanged key keeps the rest of its quota.
    entries: dict[bytes, _Held] = {}
    for key in keys:
        value = bytes.fromhex(key.sha256)
        entry = before.get(value)
        entries[value] = (
            entry if entry is not None and entry.key == key else _Held(key, value, caller_of(key))
        )
    return entries


def writers_of(file: Path) -> str | None:
    """A warning if any user of the machine can add a key, with the remedy after its last `: `.

    Readers of the file are harmless: it holds hashes, not keys.
    """
    with suppress(OSError):
        file_mode, folder = file.stat().st_mode, file.resolve().parent
        folder_mode = folder.stat().st_mode
        if file_mode & stat.S_IWOTH:
            return f"any user can write {file}, and so add keys: chmod o-w {file}"
        if folder_mode & stat.S_IWOTH and not folder_mode & stat.S_ISVTX:
            return f"any user can replace {file}, and so add keys: chmod o-w {folder}"
    return None


def _warn_of_writers(file: Path) -> None:
    if (warning := writers_of(file)) is not None:
        log.warning(warning)
