"""Opens the database, runs what is asked of it to its end, and names its failures."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import URL, Connection, Executable, Row, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.admission.patience import to_the_end, without_patience
from service.errors import DatabaseUnavailable, ServiceError
from service.sessions.database_failures import cause_of, is_ours

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
POOL_TIMEOUT_S = 10.0  # the wait for a free connection
POSTGRESQL_CONNECTIONS = 10
SQLITE_CONNECTIONS = 5  # a thread each

# FULL: a commit is on disk. secure_delete: deleted text is overwritten with zeros.
_SQLITE_SETTINGS = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")
_SQLITE_LOST = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY)

# So long a checkpoint of SQLite's log waits for readers, and keeps writers waiting.
_CHECKPOINT_MS = 100
# The pauses before each try to empty the log: two seconds in all.
_EMPTYING_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
# The same failure is logged again after so long.
_TOLD_AGAIN_S = 60.0
# What is under way when the database is closed has so long to end.
_CLOSING_S = 30.0

_SHAPES = "sqlite:///folder/file.sqlite3 or postgresql://user:password@host/database"

Work = Callable[[AsyncConnection], Awaitable[T]]
"""Statements on one connection."""

Values = Mapping[str, Any]
Rows = Sequence[Row[*tuple[Any, ...]]]


class Database:
    """One database: its connections, and what is under way on them.

    Whatever has begun runs to its end, in a task of its own, also where whoever asked for it has
    been cancelled. A statement that is broken off leaves its connection in a state that nobody
    knows: on SQLite a transaction broken off keeps the write lock until its cursors are collected.
    Only the wait for a connection can be broken off, so what goes on unasked is bounded.

    Every method raises DatabaseUnavailable.
    """

    def __init__(self, engine: AsyncEngine, connections: int) -> None:
        self.engine = engine
        self._connections = asyncio.Semaphore(connections)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._emptying = asyncio.Lock()
        self._told, self._told_at = "", 0.0  # why it failed last, and when the log said so
        self._log_holds_erased = True  # nobody knows what the process before has left

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.engine.dialect.name

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn every failure of the database inside the block into one of ours, the cause attached.

        The log says what it is and what to do, once a minute. A fault of this program, such as a
        statement that cannot be parsed, is raised as it is.

        Raises:
            DatabaseUnavailable: it is not reached, is too slow, or refuses the statement.
        """
        try:
            yield
        except _OUTSIDE as error:
            if is_ours(error):
                raise
            cause, now = cause_of(error, self.engine.url), monotonic()
            if cause != self._told or now > self._told_at + _TOLD_AGAIN_S:
                self._told, self._told_at = cause, now
                log.error(cause)
            raise _unavailable(error) from error

    async def fetch(self, statement: Executable, values: Values | None = None) -> Rows:
        """The rows of a statement that stands alone."""

        async def rows(connection: AsyncConnection) -> Rows:
            return (await connection.execute(statement, values)).all()

        return await self.run(rows)

    async def change(self, statement: Executable, values: Values | None = None) -> int:
        """How many rows a statement that stands alone has changed; it is committed at once."""

        async def changed(connection: AsyncConnection) -> int:
            return (await connection.execute(statement, values)).rowcount

        with to_the_end():
            return await self.run(changed)

    async def run(self, work: Work[T]) -> T:
        """Statements that stand alone, each committed at once: this spares two round trips."""

        async def connected() -> T:
            async with self.engine.connect() as connection:
                return await work(connection)

        return await self._connected(connected())

    async def transaction(self, work: Work[T]) -> T:
        """Statements that hold together: all of them or, where `work` raises, none.

        Neither the request's deadline nor its client's leaving interrupts the wait for it.
        """

        async def begun() -> T:
            async with transactional(self.engine).begin() as connection:
                return await work(connection)

        with to_the_end():
            return await self._connected(begun())

    async def whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Run several calls to their end, also where the caller is cancelled between them."""
        task = asyncio.create_task(work, context=without_patience())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_unheard)
            raise

    @asynccontextmanager
    async def erasing(self) -> AsyncIterator[None]:
        """Erase inside the block; after it, the text has left SQLite's write-ahead log, too."""
        try:
            yield
        finally:
            self._log_holds_erased = True  # some may have gone before a failure
        await self.empty_log()

    async def empty_log(self) -> None:
        """Have what was erased leave SQLite's write-ahead log, unless it has already.

        A reader can be in the way: it is tried again, for two seconds, with writers in between, and
        after that when this is next called.
        """
        if self.dialect == "sqlite" and self._log_holds_erased:
            with to_the_end():
                await self.whole(self._empty_log())

    async def settle(self) -> None:
        """Let what is under way end."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_CLOSING_S)

    async def close(self) -> None:
        """Let what is under way end, then close the connections."""
        await self.settle()
        await self.engine.dispose()

    async def _connected(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(POOL_TIMEOUT_S):
                await self._connections.acquire()
        except BaseException as error:
            work.close()
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable("the database has no connection free") from error
            raise

        async def answered() -> T:
            try:
                with self.answering():
                    return await work
            finally:
                self._connections.release()

        return await self.whole(answered())

    async def _empty_log(self) -> None:
        async with self._emptying:
            if not self._log_holds_erased:  # whoever had the lock has emptied it for this one too
                return
            for pause_s in _EMPTYING_S:
                await asyncio.sleep(pause_s)
                self._log_holds_erased, emptied = False, False
                try:
                    emptied = await self.run(_checkpoint)
                except DatabaseUnavailable:
                    break  # what is erased is erased; why is in the log already
                finally:  # meanwhile more may have been erased
                    self._log_holds_erased |= not emptied
                if emptied:
                    return
        log.warning("erased text is still in the database's write-ahead log; it is tried again")


def _log_unheard(task: asyncio.Task[Any]) -> None:
    """Log a fault of this program that whoever began the task is not there to raise."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, ServiceError):
        log.error("what a caller began that has left has failed", exc_info=error)


async def _checkpoint(connection: AsyncConnection) -> bool:
    """Empty SQLite's log; False: somebody reads or writes just now."""
    usual_ms = round(connection.engine.get_execution_options()["command_timeout_s"] * 1000)
    await connection.exec_driver_sql(f"PRAGMA busy_timeout={_CHECKPOINT_MS}")
    try:
        row = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).one()
    finally:
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={usual_ms}")
    return not row[0]


def open_database(url: str | URL, *, command_timeout_s: float = COMMAND_TIMEOUT_S) -> Database:
    """Prepare a database for use; it is reached only when something is asked of it.

    Args:
        url: `sqlite:///relative/file.sqlite3`, `sqlite:////absolute/file.sqlite3` (the folder is
            made) or `postgresql://user:password@host:5432/database`, with any driver suffix.
            PostgreSQL takes the parameters `host`, `port` and `sslmode` (or `ssl`).
        command_timeout_s: how long a PostgreSQL statement may take, and how long SQLite waits for
            another writer.

    Raises:
        ValueError: another kind of url; the message does not hold it.
        DatabaseUnavailable: the SQLite file's folder cannot be made.
    """
    file = sqlite_file(url)
    if file is None:
        return _open_postgresql(make_url(url), command_timeout_s)
    return _open_sqlite(make_url(url), file, command_timeout_s)


def sqlite_file(url: str | URL) -> Path | None:
    """The absolute path of the file that a url of SQLite names; None: the url is PostgreSQL's.

    Nothing is opened or made.

    Raises:
        ValueError: as `open_database`; after `: write ` the message says how a url is written.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # whose messages may hold the password
        raise ValueError(f"the database url cannot be read: write {_SHAPES}") from None
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:" or parsed.host or parsed.query:
                raise ValueError(
                    "a SQLite url needs a file and nothing else: write sqlite:///folder/file.sqlite3"
                )
            return Path(parsed.database).absolute()
        case "postgresql" | "postgres":
            return None
        case _:
            raise ValueError(f"the database url names neither database: write {_SHAPES}")


def transactional(engine: AsyncEngine) -> AsyncEngine:
    """The same database and pool, where `begin()` opens a transaction.

    On SQLite it takes the write lock at once: a transaction that reads first and asks for the
    lock later fails, without waiting, when another one wrote in between.
    """
    if engine.dialect.name == "sqlite":
        return engine.execution_options(transactional=True)
    return engine.execution_options(isolation_level="READ COMMITTED")


def connect_to_sqlite(engine: AsyncEngine) -> sqlite3.Connection:
    """A connection beside the pool's, for the thread that asks for it; no statement begins a
    transaction.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    connection = sqlite3.connect(
        engine.url.database or "",
        timeout=engine.get_execution_options()["command_timeout_s"],
        isolation_level=None,
    )
    for pragma in ("journal_mode=WAL", *_SQLITE_SETTINGS):
        connection.execute(f"PRAGMA {pragma}")
    return connection


_OUTSIDE = (DBAPIError, sqlite3.Error, OSError, TimeoutError, PoolTimeout)


def _unavailable(error: Exception) -> DatabaseUnavailable:
    lost = isinstance(error, OSError | TimeoutError | PoolTimeout)
    if isinstance(error, DBAPIError):
        lost = error.statement is None or error.connection_invalidated
    elif isinstance(error, sqlite3.Error):
        lost = getattr(error, "sqlite_errorcode", None) in _SQLITE_LOST
    return DatabaseUnavailable(
        f"the database {'does not answer' if lost else 'cannot carry this out'}"
    )


def _open_sqlite(url: URL, path: Path, command_timeout_s: float) -> Database:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            # What people said is nobody else's on this machine; SQLite's log takes the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise _unavailable(error) from error
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        connect_args={
            "timeout": command_timeout_s,  # SQLite's busy_timeout
            "isolation_level": None,  # or Python's sqlite3 begins transactions of its own
        },
        execution_options={"command_timeout_s": command_timeout_s},
        pool_size=SQLITE_CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,  # errors and logs would show what people said
    )

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connection.run_async(_set_up_sqlite)

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("transactional"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    @event.listens_for(engine.sync_engine, "invalidate")
    def release(connection: Any, *_: object) -> None:
        # Closing alone ends no transaction while a cursor of it is alive.
        with suppress(Exception):
            connection.rollback()

    return Database(engine, SQLITE_CONNECTIONS)


async def _set_up_sqlite(connection: aiosqlite.Connection) -> None:
    await _write_ahead(connection)
    for pragma in _SQLITE_SETTINGS:
        await connection.execute(f"PRAGMA {pragma}")


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    # Where two processes turn a new file to WAL at once, SQLite fails one without the usual wait.
    give_up = monotonic() + CONNECT_TIMEOUT_S
    while True:
        try:
            await connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > give_up:
                raise
            await asyncio.sleep(0.02)


def _open_postgresql(url: URL, command_timeout_s: float) -> Database:
    if not url.database:
        raise ValueError(f"the database url names no database: write {_SHAPES}")
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name; asyncpg's takes the same values
        query["ssl"] = query.pop("sslmode")
    if unknown := query.keys() - {"host", "port", "ssl"}:
        raise ValueError(f"the database url has unknown parameters: {', '.join(sorted(unknown))}")
    engine = create_async_engine(
        url.set(drivername="postgresql+asyncpg", query=query),
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": command_timeout_s,
            "server_settings": {
                # A stalled process must not keep a dialogue's row locked.
                "idle_in_transaction_session_timeout": "10s",
                # Whoever waited for a dialogue's row sees what was written to it meanwhile.
                "default_transaction_isolation": "read committed",
            },
        },
        isolation_level="AUTOCOMMIT",
        pool_size=POSTGRESQL_CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        pool_use_lifo=True,
        hide_parameters=True,  # errors and logs would show what people said
    )
    return Database(engine, POSTGRESQL_CONNECTIONS)
