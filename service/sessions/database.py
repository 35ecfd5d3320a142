"""Opens the database and names its failures."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from service.errors import DatabaseUnavailable

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
POOL_TIMEOUT_S = 10.0  # the wait for a free connection
POSTGRESQL_CONNECTIONS = 10
SQLITE_CONNECTIONS = 5  # a thread each

# FULL: a commit is on disk. secure_delete: deleted text is overwritten with zeros.
_SQLITE_SETTINGS = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")
_SQLITE_LOST = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY)

_SHAPES = "sqlite:///folder/file.sqlite3 or postgresql://user:password@host/database"


def open_database(url: str | URL, *, command_timeout_s: float = COMMAND_TIMEOUT_S) -> AsyncEngine:
    """Prepare a database for use; it is reached only when something is asked of it.

    A statement on the engine stands alone and is committed at once, which spares two round trips;
    statements that must hold together go through `transactional`.

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
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(f"the database url cannot be read: write {_SHAPES}") from None
    match parsed.get_backend_name():
        case "sqlite":
            return _open_sqlite(parsed, command_timeout_s)
        case "postgresql" | "postgres":
            return _open_postgresql(parsed, command_timeout_s)
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


@contextmanager
def answering() -> Iterator[None]:
    """Turn every failure of the database inside the block into one of ours, the cause attached.

    Raises:
        DatabaseUnavailable: it is not reached, is too slow, or refuses the statement.
    """
    try:
        yield
    except DBAPIError as error:
        lost = error.statement is None or error.connection_invalidated
        does = "does not answer" if lost else "cannot carry this out"
        raise DatabaseUnavailable(f"the database {does}") from error
    except sqlite3.Error as error:
        lost = getattr(error, "sqlite_errorcode", None) in _SQLITE_LOST
        does = "does not answer" if lost else "cannot carry this out"
        raise DatabaseUnavailable(f"the database {does}") from error
    except (OSError, TimeoutError, PoolTimeout) as error:
        raise DatabaseUnavailable("the database does not answer") from error


def _open_sqlite(url: URL, command_timeout_s: float) -> AsyncEngine:
    if not url.database or url.database == ":memory:" or url.host or url.query:
        raise ValueError(
            "a SQLite url needs a file and nothing else: sqlite:///folder/file.sqlite3"
        )
    with answering():
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
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

    return engine


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


def _open_postgresql(url: URL, command_timeout_s: float) -> AsyncEngine:
    if not url.database:
        raise ValueError(f"the database url names no database: write {_SHAPES}")
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name; asyncpg's takes the same values
        query["ssl"] = query.pop("sslmode")
    if unknown := query.keys() - {"host", "port", "ssl"}:
        raise ValueError(f"the database url has unknown parameters: {', '.join(sorted(unknown))}")
    return create_async_engine(
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
