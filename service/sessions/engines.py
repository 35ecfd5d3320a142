"""Makes the engines of SQLite and PostgreSQL, with the settings that the service relies on."""

import asyncio
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

CONNECT_TIMEOUT_S = 5.0
POOL_TIMEOUT_S = 10.0  # the wait for a free connection
POSTGRESQL_CONNECTIONS = 10
SQLITE_CONNECTIONS = 5  # a thread each

# FULL: a commit is on disk. secure_delete: deleted text is overwritten with zeros.
_SQLITE_SETTINGS = ("synchronous=FULL", "foreign_keys=ON", "secure_delete=ON")

_SHAPES = "sqlite:///folder/file.sqlite3 or postgresql://user:password@host/database"


def sqlite_file(url: str | URL) -> Path | None:
    """The absolute path of the file that a url of SQLite names; None: the url is PostgreSQL's.

    Nothing is opened or made.

    Raises:
        ValueError: as `open_database`; after `: write ` the message says how a url is written.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # whose messages may hold the password
        raise ValueError(f"the database URL cannot be read: write {_SHAPES}") from None
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:" or parsed.host or parsed.query:
                raise ValueError(
                    "a SQLite URL has a file and nothing else: write sqlite:///folder/file.sqlite3"
                )
            return Path(parsed.database).absolute()
        case "postgresql" | "postgres":
            return None
        case _:
            raise ValueError(
                f"the database URL is neither SQLite's nor PostgreSQL's: write {_SHAPES}"
            )


def make_sqlite_file(path: Path) -> None:
    """Make the file and its folder, unless they exist.

    Raises:
        OSError: one of them cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        # What people say is nobody else's on this machine; SQLite's log takes the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def sqlite_engine(url: URL, command_timeout_s: float) -> AsyncEngine:
    """The engine of an existing SQLite file; nothing is opened yet."""
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
        hide_parameters=True,  # errors and logs would show what people say
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


def postgresql_engine(url: URL, command_timeout_s: float) -> AsyncEngine:
    """The engine of a PostgreSQL database; nothing is connected yet.

    Raises:
        ValueError: the url names no database, or has an unknown parameter.
    """
    if not url.database:
        raise ValueError(f"the database URL names no database: write {_SHAPES}")
    query = dict(url.query)
    if "sslmode" in query:  # libpq's name; asyncpg's takes the same values
        query["ssl"] = query.pop("sslmode")
    if unknown := query.keys() - {"host", "port", "ssl"}:
        raise ValueError(f"the database URL has unknown parameters: {', '.join(sorted(unknown))}")
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
        hide_parameters=True,  # errors and logs would show what people say
    )


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
