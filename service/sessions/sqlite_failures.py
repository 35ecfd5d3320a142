"""Says why a SQLite file cannot be opened or used: one sentence, with what to do about it."""

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import URL

from service.failures import words_of
from service.sessions.remedies import CHECK_URL, URL_SETTING, who

# By SQLite's result code, the extended one or, if it is not here, the primary one.
_SENTENCES: Mapping[int, str] = MappingProxyType(
    {
        sqlite3.SQLITE_NOTADB: f"{{file}} is not a SQLite database: {CHECK_URL}",
        sqlite3.SQLITE_CORRUPT: "{file} is damaged ({message}): restore a backup, or recover "
        "what is left with `sqlite3 FILE .recover`",
        sqlite3.SQLITE_FULL: "the disk of {file} is full: free some space",
        sqlite3.SQLITE_BUSY: "{file} is locked by another process or a long transaction "
        "({message}): find out who has it open (`fuser FILE`)",
        sqlite3.SQLITE_LOCKED: "{file} is locked by another connection ({message}): find out who "
        "has it open (`fuser FILE`)",
        sqlite3.SQLITE_PROTOCOL: "{file} cannot be locked ({message}): it must not be on a "
        "network file system",
        sqlite3.SQLITE_READONLY_DBMOVED: "{file} was moved or deleted while it was open: put it "
        "back and restart the service",
        sqlite3.SQLITE_IOERR: "reading or writing {file} fails ({message}, {code}): check the "
        "disk; the file must not be on a network file system",
        sqlite3.SQLITE_NOMEM: "there is too little memory to use {file}: give the process more",
        sqlite3.SQLITE_INTERRUPT: "a statement on {file} was interrupted: try again",
    }
)
# Where a look at the file itself says more.
_ACCESS = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_IOERR,
    }
)
_PRIMARY = 0xFF


def names_of(url: URL) -> dict[str, str]:
    """The name of the file in the sentences."""
    file = f"the SQLite file {_path(url)}"
    return {"file": file, "where": file}


def _path(url: URL) -> Path:
    return Path(url.database or "").absolute()


def cause_of(error: BaseException, url: URL, names: Mapping[str, str]) -> str | None:
    """The sentence about one error; None: it is unknown, or not SQLite's or the file's."""
    path = _path(url)
    if isinstance(error, sqlite3.Error):
        extended = getattr(error, "sqlite_errorcode", None)
        if extended is None:
            return None
        primary = extended & _PRIMARY
        if primary == sqlite3.SQLITE_IOERR and _is_full(path):
            primary = sqlite3.SQLITE_FULL
        obstacle = _obstacle_to(path, names["file"]) if primary in _ACCESS else None
        if obstacle is not None:
            return obstacle
        if sentence := _SENTENCES.get(extended) or _SENTENCES.get(primary):
            return sentence.format(**names, message=words_of(error), code=error.sqlite_errorname)
        if primary in _ACCESS:
            return f"{names['file']} cannot be opened or written ({words_of(error)}): {CHECK_URL}"
        if "no such table" in str(error):
            return f"{names['file']} lacks tables ({words_of(error)}): run `instructerc migrate`"
        if "already exists" in str(error):
            return (
                f"{names['file']} has tables of another program ({words_of(error)}): have "
                f"{URL_SETTING} name a file of the service's own"
            )
        return None
    if isinstance(error, TimeoutError):
        return f"{names['file']} did not answer in time: check the load of this machine's disk"
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return f"the disk of {names['file']} is full: free some space"
        return _obstacle_to(path, names["file"]) or (
            f"{names['file']} cannot be used ({error.strerror or type(error).__name__}): "
            f"{CHECK_URL}"
        )
    return None


def _obstacle_to(path: Path, file: str) -> str | None:
    """The obstacle to opening a file for reading and writing, as it is now."""
    try:
        if path.is_dir():
            return f"{file} is a folder: set {URL_SETTING} to a file"
        above = next(each for each in path.parents if os.path.lexists(each))
        if not above.is_dir():
            return f"{file} cannot be created, because {above} is not a folder: {CHECK_URL}"
        if path.exists() and not path.is_file():
            return f"{file} is not a regular file: {CHECK_URL}"
        place = path if path.exists() else above
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return f"{file} is on a read-only file system: {CHECK_URL}, or mount it writable"
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            return (
                f"{who()} may not read and write {file}: change its owner or mode, or {URL_SETTING}"
            )
        if not os.access(above, os.W_OK | os.X_OK):
            return (
                f"{who()} may not write to the folder {above} of {file} and its journal: change "
                f"its owner or mode, or {URL_SETTING}"
            )
        if not path.parent.is_dir():
            return (
                f"the folder {path.parent} of {file} does not exist and cannot be created: "
                f"{CHECK_URL}"
            )
    except OSError as refused:
        return f"{file} cannot be examined ({refused.strerror}): {CHECK_URL}"
    return None


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free == 0
    except OSError:
        return False


def is_ours(error: BaseException) -> bool | None:
    """Whether SQLite or its driver reports a fault of this program; None: neither raised it."""
    if not isinstance(error, sqlite3.Error):
        return None
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own: a closed connection, a parameter too many
        return True
    match code & _PRIMARY:
        case sqlite3.SQLITE_ERROR:
            return not re.search("no such table|already exists|unable to open", str(error))
        case (
            sqlite3.SQLITE_CONSTRAINT
            | sqlite3.SQLITE_MISMATCH
            | sqlite3.SQLITE_MISUSE
            | sqlite3.SQLITE_RANGE
            | sqlite3.SQLITE_TOOBIG
        ):
            return True
        case _:
            return False
