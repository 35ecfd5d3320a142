"""Says why PostgreSQL cannot be reached or used: one sentence, with what to do about it."""

import errno
import os
import re
import socket
import ssl
from collections.abc import Mapping
from traceback import walk_tb
from types import MappingProxyType

import asyncpg
from sqlalchemy import URL

from service.failures import first_line, words_of
from service.sessions.remedies import CHECK_URL, URL_SETTING, user, who

_OTHERS = (
    '{server} has tables of another program in database "{database}" ({message}): '
    f"set {URL_SETTING} to a database of the service's own"
)
_POOLED = (
    "{server} is behind a pooler that mixes up prepared statements ({message}): connect to "
    "PostgreSQL itself, or set the pooler to session pooling"
)

# By SQLSTATE (PostgreSQL's manual, appendix A), or its first two characters, the class.
# {message} is PostgreSQL's own message.
_SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "28P01": f'{{server}} refuses the password of role "{{role}}": {CHECK_URL}, or PGPASSWORD',
        "28": '{server} does not admit role "{role}" ({message}): '
        f"{CHECK_URL}, and pg_hba.conf there",
        "3D000": '{server} has no database "{database}": '
        f'{CHECK_URL}, or create it (CREATE DATABASE "{{database}}")',
        "53300": "{server} has no free connection ({message}): raise max_connections there, or "
        "run fewer processes",
        "53100": "the disk of {server} is full ({message}): free some space there",
        "53": "{server} lacks resources ({message}): check its memory, its disk and its log",
        "57P01": "{server} closed the connection or is shutting down ({message}): try again when "
        "it is up",
        "57P02": "{server} has crashed and closes its connections ({message}): see its log",
        "57P03": "{server} accepts no connections now ({message}): try again when it is up",
        "57P05": "{server} has closed the idle connection ({message}): try again",
        "57014": "{server} aborted a statement that took too long or was cancelled ({message}): "
        "check locks and load there (pg_stat_activity)",
        "55P03": "{server} could not get a statement's locks in time ({message}): find out who "
        "holds them (pg_locks)",
        "40": "{server} aborted a transaction that conflicted with another one ({message}): try "
        "again",
        "25006": '{server} has database "{database}" read-only, like a standby '
        f"({{message}}): set {URL_SETTING} to the primary",
        "25P03": "{server} aborted an idle transaction ({message}): check the load of this machine",
        "42501": '{server} denies role "{role}" a privilege that it needs ({message}): GRANT it, '
        "or let the owner of the tables run `instructerc migrate`",
        "42P01": '{server} lacks tables in database "{database}" ({message}): run `instructerc '
        "migrate`, and check that the role's search_path is the one it ran with",
        "3F000": '{server} has no schema for the tables in database "{database}" ({message}): '
        'create it, or set the search_path of role "{role}"',
        "42P07": _OTHERS,
        "42710": _OTHERS,
        "42P05": _POOLED,
        "26000": _POOLED,
        "22P05": 'database "{database}" of {server} cannot store every character: create it '
        "again with ENCODING 'UTF8'",
        "08": "{server} dropped the connection ({message}): see its log",
        "58": "{server} cannot read or write its files ({message}): check its disk and its log",
        "XX001": "{server} reports damaged data ({message}): restore a backup",
        "XX002": "{server} reports a damaged index ({message}): REINDEX it, or restore a backup",
        "0A000": "{server} has changed tables or does not understand a statement ({message}): "
        "try again; if the error persists, restart the service",
    }
)
# A class whose errors are of the statement, so of this program, and those of it that are not.
_STATEMENT = ("42", "22", "23")
_NOT_OF_STATEMENT = frozenset({"42501", "42P01", "42P05", "42P07", "42710", "22P05"})

CONFIGURATION = asyncpg.exceptions.ClientConfigurationError
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})
_TLS_REFUSED = "rejected SSL upgrade"  # asyncpg's ConnectionError has no kind of its own
_PLAIN = re.compile(r"no pg_hba\.conf entry .*(no encryption|SSL off)")


def names_of(url: URL) -> dict[str, str]:
    """The names of server, role and database in the sentences; `where` stands for either."""
    role = url.username or os.environ.get("PGUSER") or user()
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


def cause_of(error: BaseException, url: URL, names: Mapping[str, str]) -> str | None:
    """The sentence about one error; None: it is unknown, or not PostgreSQL's or the network's."""
    server = names["server"]
    if sqlstate := sqlstate_of(error):
        sentence = _SENTENCES.get(sqlstate) or _SENTENCES.get(sqlstate[:2])
        if sqlstate == "28P01" and not (url.password or os.environ.get("PGPASSWORD")):
            sentence = (
                '{server} requires a password for role "{role}": '
                f"put it into {URL_SETTING} or PGPASSWORD"
            )
        message = message_of(error)
        if _PLAIN.search(message):
            sentence = (
                '{server} does not admit role "{role}" without TLS, or not from this address '
                f"({{message}}): add ?sslmode=require to {URL_SETTING}, or a line to pg_hba.conf "
                "there"
            )
        return sentence and sentence.format(**names, message=message)
    match error:
        case _ if isinstance(error, CONFIGURATION):
            return f"the connection to {server} is misconfigured ({message_of(error)}): {CHECK_URL}"
        case _ if _is_lost(error):
            return f"{server} dropped the connection ({message_of(error)}): see its log"
        case socket.gaierror():
            return (
                f"the host of {server} cannot be resolved ({error.strerror}): {CHECK_URL}, and DNS"
            )
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {server} is not trusted ({error.verify_message}): set "
                "PGSSLROOTCERT to the certificate of the authority that signed it, and check "
                "that it names the host"
            )
        case ssl.SSLError():
            return f"TLS with {server} fails ({error.reason or message_of(error)}): {CHECK_URL}"
        case ConnectionError() if _TLS_REFUSED in str(error):
            return (
                f"{server} has no TLS, but {URL_SETTING} requires it: enable it there, or remove "
                f"sslmode from {URL_SETTING}"
            )
        case TimeoutError() if _is_of_connecting(error):
            return (
                f"{server} does not answer in time: check that it is running, and that no "
                f"firewall is in between; {CHECK_URL}"
            )
        case OSError():
            return _of_connection(error, server)
        case TimeoutError():
            return _slow(server)
    return None


def _of_connection(error: OSError, server: str) -> str | None:
    match _errno(error):
        case errno.ECONNREFUSED:
            return f"nothing listens at {server}: check that it is running; {CHECK_URL}"
        case number if number in _UNREACHABLE:
            return (
                f"{server} is on no reachable network ({os.strerror(number)}): {CHECK_URL}, and "
                "the routes"
            )
        case errno.ETIMEDOUT:
            return (
                f"{server} does not answer in time: check that it is running, and that no "
                f"firewall is in between; {CHECK_URL}"
            )
        case errno.ENOENT | errno.ENOTDIR if "at /" in server:
            return f"the socket of {server} does not exist: check that it is running; {CHECK_URL}"
        case errno.ENOENT | errno.ENOTDIR:
            return (
                f"a file for TLS with {server} does not exist: check PGSSLROOTCERT and "
                f"{URL_SETTING}"
            )
        case errno.EACCES | errno.EPERM:
            return f"{who()} may not connect to {server}: {CHECK_URL}, or the socket's permissions"
        case errno.ECONNRESET | errno.EPIPE | errno.ECONNABORTED:
            return (
                f"{server} dropped the connection: check that PostgreSQL listens there, and see "
                "its log"
            )
        case None if isinstance(error, TimeoutError):
            return _slow(server)
        case None if isinstance(error, ConnectionError):
            return f"{server} dropped the connection: see its log"
        case None:
            return None
        case number:
            return f"{server} cannot be reached ({os.strerror(number)}): {CHECK_URL}"


def _slow(server: str) -> str:
    return (
        f"{server} did not finish a statement in time: check locks and load there "
        "(pg_stat_activity)"
    )


def is_ours(error: BaseException) -> bool | None:
    """Whether PostgreSQL or its driver reports a fault of this program; None: neither raised it."""
    if sqlstate := sqlstate_of(error):
        return sqlstate.startswith(_STATEMENT) and sqlstate not in _NOT_OF_STATEMENT
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError):
        return not (_is_lost(error) or isinstance(error, CONFIGURATION))
    return None


def message_of(error: BaseException) -> str:
    """An outside error's own message, where it cannot hold what people say."""
    if isinstance(error, ssl.SSLError):
        return error.reason or ""
    is_interface = isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError)
    if is_interface or isinstance(error, CONFIGURATION):
        return first_line(error)
    return words_of(error)


def sqlstate_of(error: BaseException) -> str | None:
    sqlstate = getattr(error, "sqlstate", None)
    return sqlstate if isinstance(sqlstate, str) else None


def _is_lost(error: BaseException) -> bool:
    # Its state machine's words for a connection that ends while a statement is under way.
    if isinstance(error, asyncpg.InternalClientError):
        return str(error).startswith("cannot switch to state")
    return isinstance(error, asyncpg.InterfaceError) and bool(
        re.search("connection (is|was|has been) (closed|lost|released)", str(error))
    )


def _errno(error: OSError) -> int | None:
    if error.errno is not None:
        return error.errno
    # Of a host with several addresses, asyncio raises one error without a number.
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    return int(numbers[-1]) if numbers else None


def _is_of_connecting(error: TimeoutError) -> bool:
    # asyncpg's time limits, for connections and for statements, raise the same bare error.
    return any(
        frame.f_code.co_name == "connect"
        and frame.f_globals.get("__name__") == "asyncpg.connection"
        for frame, _ in walk_tb(error.__traceback__)
    )
