"""The keys that are valid now; the key file is read again when it changes."""

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

log = logging.getLogger(__name__)

_LOOK_S = 1.0
_NOT_GOOD = "the key is not known, or no longer good"

# Changes with every change of a file, also of one that others take the place of.
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Held:
    key: Key
    digest: bytes
    caller: Caller


class Keyring:
    """The keys of a file.

    What is held for a caller is as much as there are keys, whoever asks.
    """

    def __init__(self, file: Path) -> None:
        """Read the keys.

        Raises:
            KeysError: the file cannot be read, or is not as it should be.
        """
        self._file = file
        self._stamp = _stamp(file)
        self._held: Mapping[bytes, _Held] = _take_up(read_keys(file), {})
        _warn_of_writers(file)

    def caller(self, key: str) -> Caller:
        """Whoever holds a key.

        Raises:
            Unauthenticated: there is no such key, or its time is over.
        """
        return self._caller(digest(key))

    def check(self, caller: Caller) -> None:
        """Refuse a caller whose key is no longer good for all that it was good for.

        Raises:
            Unauthenticated: it is gone, has had its time, is another tenant's or lacks a scope now.
        """
        now = self._caller(caller.digest)
        if now.tenant != caller.tenant or not caller.scopes <= now.scopes:
            raise Unauthenticated(_NOT_GOOD)

    def _caller(self, given: bytes) -> Caller:
        # A lookup takes its time by the hash, of which nobody can choose the beginning.
        held = self._held.get(given)
        if (
            held is None
            or not hmac.compare_digest(held.digest, given)
            or (held.key.not_after is not None and held.key.not_after <= datetime.now(UTC))
        ):
            raise Unauthenticated(_NOT_GOOD)
        return held.caller

    async def watch(self) -> None:
        """Take up what changes in the file, for as long as the service runs."""
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Take up the file's keys if it has changed, all of them or, where it is broken, none."""
        stamp = await asyncio.to_thread(_stamp, self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # also of a broken one, which is told of once
        try:
            keys = await asyncio.to_thread(read_keys, self._file)
        except KeysError as error:
            log.error("the keys stay as they were: %s", error)
            return
        self._held = _take_up(keys, self._held)
        log.info("%d keys read from %s", len(keys), self._file)
        _warn_of_writers(self._file)


def open_keyring(file: Path | None, host: str, *, allow_anonymous: bool) -> Keyring | None:
    """The keys of a file; None: there is no file, and anybody may ask for anything.

    Args:
        host: the address that the service is to listen on.
        allow_anonymous: this is meant so, on any address.

    Raises:
        KeysError: the file cannot be used; or there is none, and others than this machine's
            users could ask.
    """
    if file is not None:
        return Keyring(file)
    if is_loopback(host) or allow_anonymous:
        return None
    raise KeysError(
        f"ERC_HOST={host} is open to other machines, and there are no keys: set ERC_KEYS_FILE "
        "(`instructerc keys new` makes a key), or ERC_ALLOW_ANONYMOUS=true if anybody may ask"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # another name, which may lead anywhere
        return False


def _take_up(keys: tuple[Key, ...], before: Mapping[bytes, _Held]) -> Mapping[bytes, _Held]:
    # A key that is as it was goes on with what is left of its quota.
    found: dict[bytes, _Held] = {}
    for key in keys:
        value = bytes.fromhex(key.sha256)
        known = before.get(value)
        found[value] = (
            known if known is not None and known.key == key else _Held(key, value, caller_of(key))
        )
    return found


def writers_of(file: Path) -> str | None:
    """That anybody on the machine may add a key, if so; after its last `: `, what to do about it.

    Whoever reads the file learns hashes, and no key.
    """
    with suppress(OSError):
        file_mode, folder = file.stat().st_mode, file.resolve().parent
        folder_mode = folder.stat().st_mode
        if file_mode & stat.S_IWOTH:
            return f"any user may write {file}, and so make keys: chmod o-w {file}"
        if folder_mode & stat.S_IWOTH and not folder_mode & stat.S_ISVTX:
            return f"any user may replace {file}, and so make keys: chmod o-w {folder}"
    return None


def _warn_of_writers(file: Path) -> None:
    if (told := writers_of(file)) is not None:
        log.warning(told)


def _stamp(file: Path) -> _Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
