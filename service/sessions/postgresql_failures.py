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
    f"have {URL_SETTING} name a database of the service's own"
)
_POOLED = (
    "{server} is behind a pooler that mixes up prepared statements ({message}): connect to "
    "PostgreSQL itself, or have the pooler pool sessions"
)

# By SQLSTATE (PostgreSQL's manual, appendix A), or its first two characters, the class.
# {message} is PostgreSQL's own message.
_SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "28P01": f'{{server}} refuses the password of role "{{role}}": {CHECK_URL}, or PGPASSWORD',
        "28": '{server} does not let role "{role}" in ({message}): '
        f"{CHECK_URL}, and pg_hba.conf there",
        "3D000": '{server} has no database "{database}": '
        f'{CHECK_URL}, or make it (CREATE DATABASE "{{database}}")',
        "53300": "{server} has no connection left ({message}): raise max_connections there, or run "
        "fewer processes",
        "53100": "the disk of {server} is full ({message}): make room there",
        "53": "{server} lacks resources ({message}): look at its memory, its disk and its log",
        "57P01": "{server} ended the connection, or shuts down ({message}): try again when it is "
        "up",
        "57P02": "{server} has crashed and ends its connections ({message}): look at its log",
        "57P03": "{server} takes no connections now ({message}): try again when it is up",
        "57P05": "{server} has ended the connection, which was idle ({message}): try again",
        "57014": "{server} gave up a statement that took too long or was cancelled ({message}): "
        "look for locks and load there (pg_stat_activity)",
        "55P03": "{server} could not lock what a statement needs in time ({message}): look for who "
        "holds it (pg_locks)",
        "40": "{server} gave up a transaction that met another one ({message}): try again",
        "25006": '{server} lets nobody write to database "{database}", as a standby does '
        f"({{message}}): have {URL_SETTING} name the primary",
        "25P03": "{server} ended a transaction that stood still ({message}): look for load on this "
        "machine",
        "42501": '{server} denies role "{role}" what it needs ({message}): GRANT it, or have the '
        "owner of the tables run `instructerc migrate`",
        "42P01": '{server} lacks tables in database "{database}" ({message}): run '
        "`instructerc migrate`, and see that the role's search_path is the one it ran with",
        "3F000": '{server} has no schema for the tables in database "{database}" ({message}): '
        'make it, or set the search_path of role "{role}"',
        "42P07": _OTHERS,
        "42710": _OTHERS,
        "42P05": _POOLED,
        "26000": _POOLED,
        "22P05": 'database "{database}" of {server} cannot store every character: make it anew '
        "with ENCODING 'UTF8'",
        "08": "{server} broke the connection off ({message}): look at its log",
        "58": "{server} has trouble with its files ({message}): look at its disk and its log",
        "XX001": "{server} finds its data damaged ({message}): restore a backup",
        "XX002": "{server} finds an index damaged ({message}): REINDEX it, or restore a backup",
        "0A000": "{server} has had its tables changed, or does not know what is asked ({message}): "
        "try again; if it goes on, start the service anew",
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
    """What the sentences call the server, the role and the database; `where` for either."""
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
                '{server} asks for a password for role "{role}": '
                f"put it into {URL_SETTING}, or PGPASSWORD"
            )
        message = message_of(error)
        if _PLAIN.search(message):
            sentence = (
                '{server} does not let role "{role}" in without TLS, or not from this address '
                f"({{message}}): add ?sslmode=require to {URL_SETTING}, or a line to pg_hba.conf "
                "there"
            )
        return sentence and sentence.format(**names, message=message)
    match error:
        case _ if isinstance(error, CONFIGURATION):
            return f"the way to {server} is set up wrongly ({message_of(error)}): {CHECK_URL}"
        case _ if _is_lost(error):
            return f"{server} broke the connection off ({message_of(error)}): look at its log"
        case socket.gaierror():
            return f"the host of {server} is not found ({error.strerror}): {CHECK_URL}, and the DNS"
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {server} is not trusted ({error.verify_message}): have "
                "PGSSLROOTCERT name the file of the authority that signed it, and see that the "
                "host's name is in it"
            )
        case ssl.SSLError():
            return f"TLS with {server} fails ({error.reason or message_of(error)}): {CHECK_URL}"
        case ConnectionError() if _TLS_REFUSED in str(error):
            return (
                f"{server} has no TLS, and {URL_SETTING} asks for it: switch it on there, or take "
                f"sslmode out of {URL_SETTING}"
            )
        case TimeoutError() if _is_of_connecting(error):
            return (
                f"{server} does not answer in time: see that it runs, and that no firewall is in "
                f"between; {CHECK_URL}"
            )
        case OSError():
            return _of_connection(error, server)
        case TimeoutError():
            return _slow(server)
    return None


def _of_connection(error: OSError, server: str) -> str | None:
    match _errno(error):
        case errno.ECONNREFUSED:
            return f"nothing listens at {server}: see that it runs; {CHECK_URL}"
        case number if number in _UNREACHABLE:
            return (
                f"no network leads to {server} ({os.strerror(number)}): {CHECK_URL}, and the routes"
            )
        case errno.ETIMEDOUT:
            return (
                f"{server} does not answer in time: see that it runs, and that no firewall is in "
                f"between; {CHECK_URL}"
            )
        case errno.ENOENT | errno.ENOTDIR if "at /" in server:
            return f"there is no socket of {server}: see that it runs; {CHECK_URL}"
        case errno.ENOENT | errno.ENOTDIR:
            return f"a file for TLS with {server} is not there: see PGSSLROOTCERT and {URL_SETTING}"
        case errno.EACCES | errno.EPERM:
            return f"{who()} may not connect to {server}: {CHECK_URL}, or the socket's permissions"
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
            return f"{server} is not reached ({os.strerror(number)}): {CHECK_URL}"


def _slow(server: str) -> str:
    return (
        f"{server} did not carry a statement out in time: look for locks and load there "
        "(pg_stat_activity)"
    )


def is_ours(error: BaseException) -> bool | None:
    """Whether PostgreSQL or its driver reports a fault of this program; None: neither raised it."""
    if sqlstate := sqlstate_of(error):
        return sqlstate.startswith(_STATEMENT) and sqlstate not in _NOT_OF_STATEMENT
    if isinstance(error, asyncpg.InterfaceError):
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
