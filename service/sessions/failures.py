"""Says why the database cannot be reached or used: one sentence, with what to do about it.

The sentences are for those who run the service: they name the host, the port, the database, the
role or the file. Never a password, a parameter of a statement, or what people say, so they may be
logged.
"""

import errno
import getpass
import os
import re
import shutil
import socket
import sqlite3
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from traceback import walk_tb
from types import MappingProxyType
from urllib.parse import quote

import asyncpg
from alembic.util.exc import CommandError
from sqlalchemy import URL
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.failures import first_line, words_of

_URL = "ERC_DATABASE__URL"
_CHECK = f"check {_URL}"

_OTHERS = (
    '{server} has tables of another program in database "{database}" ({said}): '
    f"have {_URL} name a database of the service's own"
)
_POOLED = (
    "{server} is behind a pooler that mixes up prepared statements ({said}): connect to "
    "PostgreSQL itself, or have the pooler pool sessions"
)

# By SQLSTATE (PostgreSQL's manual, appendix A), or its first two characters, the class.
# {said} is PostgreSQL's own message.
_POSTGRESQL: Mapping[str, str] = MappingProxyType(
    {
        "28P01": f'{{server}} refuses the password of role "{{role}}": {_CHECK}, or PGPASSWORD',
        "28": '{server} does not let role "{role}" in ({said}): '
        f"{_CHECK}, and pg_hba.conf there",
        "3D000": '{server} has no database "{database}": '
        f'{_CHECK}, or make it (CREATE DATABASE "{{database}}")',
        "53300": "{server} has no connection left ({said}): raise max_connections there, or run "
        "fewer processes",
        "53100": "the disk of {server} is full ({said}): make room there",
        "53": "{server} lacks resources ({said}): look at its memory, its disk and its log",
        "57P01": "{server} ended the connection, or shuts down ({said}): try again when it is up",
        "57P02": "{server} has crashed and ends its connections ({said}): look at its log",
        "57P03": "{server} takes no connections now ({said}): try again when it is up",
        "57P05": "{server} has ended the connection, which was idle ({said}): try again",
        "57014": "{server} gave up a statement that took too long or was cancelled ({said}): "
        "look for locks and load there (pg_stat_activity)",
        "55P03": "{server} could not lock what a statement needs in time ({said}): look for who "
        "holds it (pg_locks)",
        "40": "{server} gave up a transaction that met another one ({said}): try again",
        "25006": '{server} lets nobody write to database "{database}", as a standby does ({said}): '
        f"have {_URL} name the primary",
        "25P03": "{server} ended a transaction that stood still ({said}): look for load on this "
        "machine",
        "42501": '{server} denies role "{role}" what it needs ({said}): GRANT it, or have the '
        "owner of the tables run `instructerc migrate`",
        "42P01": '{server} lacks tables in database "{database}" ({said}): run '
        "`instructerc migrate`, and see that the role's search_path is the one it ran with",
        "3F000": '{server} has no schema for the tables in database "{database}" ({said}): '
        'make it, or set the search_path of role "{role}"',
        "42P07": _OTHERS,
        "42710": _OTHERS,
        "42P05": _POOLED,
        "26000": _POOLED,
        "22P05": 'database "{database}" of {server} cannot store every character: make it anew '
        "with ENCODING 'UTF8'",
        "08": "{server} broke the connection off ({said}): look at its log",
        "58": "{server} has trouble with its files ({said}): look at its disk and its log",
        "XX001": "{server} finds its data damaged ({said}): restore a backup",
        "XX002": "{server} finds an index damaged ({said}): REINDEX it, or restore a backup",
        "0A000": "{server} has had its tables changed, or does not know what is asked ({said}): "
        "try again; if it goes on, start the service anew",
    }
)
# A class whose errors are of the statement, so of this program, and those of it that are not.
_STATEMENT = ("42", "22", "23")
_NOT_OF_STATEMENT = frozenset({"42501", "42P01", "42P05", "42P07", "42710", "22P05"})

# By SQLite's result code, the extended one or, if it is not here, the primary one.
_SQLITE: Mapping[int, str] = MappingProxyType(
    {
        sqlite3.SQLITE_NOTADB: f"{{file}} is not a SQLite database: {_CHECK}",
        sqlite3.SQLITE_CORRUPT: "{file} is damaged ({said}): restore a backup, or save what can be "
        "saved with `sqlite3 FILE .recover`",
        sqlite3.SQLITE_FULL: "the disk of {file} is full: make room",
        sqlite3.SQLITE_BUSY: "{file} is locked by another process or a long transaction ({said}): "
        "see who has it open (`fuser FILE`)",
        sqlite3.SQLITE_LOCKED: "{file} is locked by another connection ({said}): see who has it "
        "open (`fuser FILE`)",
        sqlite3.SQLITE_PROTOCOL: "{file} cannot be locked ({said}): it must not lie on a network "
        "file system",
        sqlite3.SQLITE_READONLY_DBMOVED: "{file} was moved or deleted while it was open: put it "
        "back and start the service anew",
        sqlite3.SQLITE_IOERR: "reading or writing {file} fails ({said}, {code}): look at the disk; "
        "it must not lie on a network file system",
        sqlite3.SQLITE_NOMEM: "there is no memory left to use {file}: give the process more",
        sqlite3.SQLITE_INTERRUPT: "a statement on {file} was interrupted: try again",
    }
)
# What looking at the file itself tells more of.
_SQLITE_ACCESS = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_IOERR,
    }
)
_SQLITE_PRIMARY = 0xFF

_CONFIGURATION = asyncpg.exceptions.ClientConfigurationError
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
_TLS_REFUSED = "rejected SSL upgrade"  # asyncpg's ConnectionError has no kind of its own
_NEWER = "Can't locate revision"  # Alembic's CommandError neither
_PLAIN = re.compile(r"no pg_hba\.conf entry .*(no encryption|SSL off)")


def cause_of(error: BaseException, url: URL) -> str:
    """Why the database was not reached or not used, in one sentence; after its last `: `, what to
    do about it.

    Args:
        error: as SQLAlchemy, its drivers, Alembic or the operating system raise it, or one of
            ours with such a cause.
        url: the database's.
    """
    chain = list(_chain(error))
    names = _sqlite_names(url) if url.get_backend_name() == "sqlite" else _postgresql_names(url)
    tell = _of_sqlite if url.get_backend_name() == "sqlite" else _of_postgresql
    # The innermost error is the outside's own.
    told = (_of_either(each, names) or tell(each, url, names) for each in reversed(chain))
    sentence = next(filter(None, told), None) or _unknown(chain[-1], names)
    return _without_passwords(" ".join(sentence.replace(" ()", "").split()), url)


def is_ours(error: BaseException) -> bool:
    """Whether a failure is a fault of this program, such as a statement that cannot be parsed.

    Those are not for whoever runs the database to mend. What cannot be put down to the database,
    its machine or the way to it counts as ours.
    """
    for each in reversed(list(_chain(error))):
        if isinstance(each, CommandError):
            return _NEWER not in str(each)
        if isinstance(each, sqlite3.Error):
            return _is_ours_of_sqlite(each)
        if sqlstate := _sqlstate(each):
            return sqlstate.startswith(_STATEMENT) and sqlstate not in _NOT_OF_STATEMENT
        if isinstance(each, asyncpg.InterfaceError):
            return not (_is_lost(each) or isinstance(each, _CONFIGURATION))
        if isinstance(each, OSError | TimeoutError | PoolTimeout | EOFError):
            return False
    return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, the outermost first."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        if isinstance(following, _CONFIGURATION):
            return  # it says more than the KeyError or OSError it comes from
        following = following.__cause__ or getattr(following, "orig", None)


def _of_either(error: BaseException, names: Mapping[str, str]) -> str | None:
    if isinstance(error, CommandError) and _NEWER in str(error):
        return (
            f"the tables in {names['where']} are of a newer version of this program: start that "
            "version, or restore a backup made before it first ran"
        )
    if isinstance(error, PoolTimeout):
        return (
            f"all connections of this process to {names['where']} are in use: there is more to do "
            "than the database keeps up with, or it hangs"
        )
    return None


def _of_postgresql(error: BaseException, url: URL, names: Mapping[str, str]) -> str | None:
    server = names["server"]
    if sqlstate := _sqlstate(error):
        found = _POSTGRESQL.get(sqlstate) or _POSTGRESQL.get(sqlstate[:2])
        if sqlstate == "28P01" and not (url.password or os.environ.get("PGPASSWORD")):
            found = (
                '{server} asks for a password for role "{role}": '
                f"put it into {_URL}, or PGPASSWORD"
            )
        said = _said(error)
        if _PLAIN.search(said):
            found = (
                '{server} does not let role "{role}" in without TLS, or not from this address '
                f"({{said}}): add ?sslmode=require to {_URL}, or a line to pg_hba.conf there"
            )
        return found and found.format(**names, said=said)
    match error:
        case _ if isinstance(error, _CONFIGURATION):
            return f"the way to {server} is set up wrongly ({_said(error)}): {_CHECK}"
        case _ if _is_lost(error):
            return f"{server} broke the connection off ({_said(error)}): look at its log"
        case socket.gaierror():
            return f"the host of {server} is not found ({error.strerror}): {_CHECK}, and the DNS"
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {server} is not trusted ({error.verify_message}): have "
                "PGSSLROOTCERT name the file of the authority that signed it, and see that the "
                "host's name is in it"
            )
        case ssl.SSLError():
            return f"TLS with {server} fails ({error.reason or _said(error)}): {_CHECK}"
        case ConnectionError() if _TLS_REFUSED in str(error):
            return (
                f"{server} has no TLS, and {_URL} asks for it: switch it on there, or take "
                f"sslmode out of {_URL}"
            )
        case TimeoutError() if _is_of_connecting(error):
            return (
                f"{server} does not answer in time: see that it runs, and that no firewall is in "
                f"between; {_CHECK}"
            )
        case OSError():
            return _of_connection(error, server)
        case TimeoutError():
            return _slow(server)
    return None


def _of_connection(error: OSError, server: str) -> str | None:
    match _errno(error):
        case errno.ECONNREFUSED:
            return f"nothing listens at {server}: see that it runs; {_CHECK}"
        case number if number in _UNREACHABLE:
            return f"no network leads to {server} ({os.strerror(number)}): {_CHECK}, and the routes"
        case errno.ETIMEDOUT:
            return (
                f"{server} does not answer in time: see that it runs, and that no firewall is in "
                f"between; {_CHECK}"
            )
        case errno.ENOENT | errno.ENOTDIR if "at /" in server:
            return f"there is no socket of {server}: see that it runs; {_CHECK}"
        case errno.ENOENT | errno.ENOTDIR:
            return f"a file for TLS with {server} is not there: see PGSSLROOTCERT and {_URL}"
        case errno.EACCES | errno.EPERM:
            return f"{_who()} may not connect to {server}: {_CHECK}, or the socket's permissions"
        case errno.ECONNRESET | errno.EPIPE | errno.ECONNABORTED:
            return (
                f"{server} broke the connection off: see that it is PostgreSQL that listens there, "
                "and look at its log"
            )
        case None if isinstance(error, TimeoutError):
            return _slow(server)
        case None if isinstance(error, ConnectionError):
            return f"{server} broke the connection off: look at its log"
        case None:
            return None
        case number:
            return f"{server} is not reached ({os.strerror(number)}): {_CHECK}"


def _slow(server: str) -> str:
    return (
        f"{server} did not carry a statement out in time: look for locks and load there "
        "(pg_stat_activity)"
    )


def _of_sqlite(error: BaseException, url: URL, names: Mapping[str, str]) -> str | None:
    path = _path(url)
    if isinstance(error, sqlite3.Error):
        extended = getattr(error, "sqlite_errorcode", None)
        if extended is None:
            return None
        primary = extended & _SQLITE_PRIMARY
        if primary == sqlite3.SQLITE_IOERR and _is_full(path):
            primary = sqlite3.SQLITE_FULL
        seen = _of_access(path, names["file"]) if primary in _SQLITE_ACCESS else None
        if seen is not None:
            return seen
        if found := _SQLITE.get(extended) or _SQLITE.get(primary):
            return found.format(**names, said=_said(error), code=error.sqlite_errorname)
        if primary in _SQLITE_ACCESS:
            return f"{names['file']} cannot be opened or written ({_said(error)}): {_CHECK}"
        if "no such table" in str(error):
            return f"{names['file']} lacks tables ({_said(error)}): run `instructerc migrate`"
        if "already exists" in str(error):
            return (
                f"{names['file']} has tables of another program ({_said(error)}): have {_URL} name "
                "a file of the service's own"
            )
        return None
    if isinstance(error, TimeoutError):
        return f"{names['file']} did not answer in time: look at the load of this machine's disk"
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return f"the disk of {names['file']} is full: make room"
        return _of_access(path, names["file"]) or (
            f"{names['file']} cannot be used ({error.strerror or type(error).__name__}): {_CHECK}"
        )
    return None


def _of_access(path: Path, file: str) -> str | None:
    """What stands in the way of opening a file for reading and writing, as it is now."""
    try:
        if path.is_dir():
            return f"{file} is a folder: have {_URL} name a file"
        above = next(each for each in path.parents if os.path.lexists(each))
        if not above.is_dir():
            return f"{file} cannot be made, because {above} is not a folder: {_CHECK}"
        if path.exists() and not path.is_file():
            return f"{file} is not a regular file: {_CHECK}"
        place = path if path.exists() else above
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return f"{file} lies on a file system that is read-only: {_CHECK}, or mount it writable"
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            return f"{_who()} may not read and write {file}: change its owner or mode, or {_URL}"
        if not os.access(above, os.W_OK | os.X_OK):
            return (
                f"{_who()} may not write to the folder {above}, where {file} and its journal go: "
                f"change its owner or mode, or {_URL}"
            )
        if not path.parent.is_dir():
            return f"there is no folder {path.parent} for {file}, and none can be made: {_CHECK}"
    except OSError as refused:
        return f"{file} cannot be looked at ({refused.strerror}): {_CHECK}"
    return None


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free == 0
    except OSError:
        return False


def _is_ours_of_sqlite(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own: a closed connection, a parameter too many
        return True
    match code & _SQLITE_PRIMARY:
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


def _unknown(error: BaseException, names: Mapping[str, str]) -> str:
    kind = type(error)
    named = kind.__qualname__
    if kind.__module__ != "builtins":
        named = f"{kind.__module__}.{named}"
    if sqlstate := _sqlstate(error):
        named += f", SQLSTATE {sqlstate}"
    said = _said(error)
    return (
        f"{names['where']} fails with {named} ({said}): see the whole error in the log at "
        "ERC_LOG_LEVEL=debug"
    )


def _said(error: BaseException) -> str:
    """An outside error's own message, where it cannot hold what people say."""
    if isinstance(error, ssl.SSLError):
        return error.reason or ""
    is_setup = isinstance(error, _CONFIGURATION | CommandError)
    if is_setup or (
        isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)
    ):
        return first_line(error)
    return words_of(error)


def _sqlstate(error: BaseException) -> str | None:
    found = getattr(error, "sqlstate", None)
    return found if isinstance(found, str) else None


def _errno(error: OSError) -> int | None:
    if error.errno is not None:
        return error.errno
    # Of a host with several addresses, asyncio raises one error without a number.
    found = re.findall(r"\[Errno (\d+)\]", str(error))
    return int(found[-1]) if found else None


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, asyncpg.InterfaceError) and bool(
        re.search("connection (is|was|has been) (closed|lost|released)", str(error))
    )


def _is_of_connecting(error: TimeoutError) -> bool:
    # asyncpg's time limits, for connections and for statements, raise the same bare error.
    return any(
        frame.f_code.co_name == "connect"
        and frame.f_globals.get("__name__") == "asyncpg.connection"
        for frame, _ in walk_tb(error.__traceback__)
    )


def _postgresql_names(url: URL) -> dict[str, str]:
    role = url.username or os.environ.get("PGUSER") or _user()
    server = f"PostgreSQL at {_address(url)}"
    database = url.database or role
    return {
        "server": server,
        "role": role,
        "database": database,
        "where": f'database "{database}" of {server}',
    }


def _address(url: URL) -> str:
    """`host:port`, or a socket's folder; where the url has none, as libpq's variables say."""
    given = url.query.get("host") or url.host or os.environ.get("PGHOST") or "localhost"
    hosts = given.split(",") if isinstance(given, str) else list(given)
    ports = url.query.get("port") or str(url.port or os.environ.get("PGPORT") or 5432)
    port = ports if isinstance(ports, str) else ",".join(ports)
    shown = (f"[{host}]" if host.count(":") > 1 else host for host in hosts)
    return ", ".join(
        host if host.startswith("/") or re.search(r"[^:\[]:\d+$", host) else f"{host}:{port}"
        for host in shown
    )


def _sqlite_names(url: URL) -> dict[str, str]:
    file = f"the SQLite file {_path(url)}"
    return {"file": file, "where": file}


def _path(url: URL) -> Path:
    return Path(url.database or "").absolute()


def _who() -> str:
    return f"user {_user()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a number may have no name
        return str(os.geteuid())


def _without_passwords(sentence: str, url: URL) -> str:
    for password in (url.password, os.environ.get("PGPASSWORD")):
        for shown in {password, password and quote(str(password), safe="")}:
            if shown:
                sentence = sentence.replace(str(shown), "***")
    return sentence
