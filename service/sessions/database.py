"""Executes statements to their end, and turns the database's failures into the service's own."""

import asyncio
import logging
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
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any, TypeVar

from sqlalchemy import URL, Executable, Row, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.admission.deadline import to_the_end, without_deadline
from service.errors import DatabaseUnavailable, ServiceError
from service.sessions.database_failures import cause_of, is_ours
from service.sessions.engines import (
    POOL_TIMEOUT_S,
    POSTGRESQL_CONNECTIONS,
    SQLITE_CONNECTIONS,
    make_sqlite_file,
    postgresql_engine,
    sqlite_engine,
    sqlite_file,
    transactional,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMAND_TIMEOUT_S = 10.0

_SQLITE_LOST = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY)

# How long a checkpoint of SQLite's log waits for readers, and keeps writers waiting.
_CHECKPOINT_MS = 100
# The pauses before each try to empty the log: two seconds in all.
_EMPTYING_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
# How long the same failure is not logged again.
_LOGGED_AGAIN_S = 60.0
# How long work that is under way may take to end when the database is closed.
_CLOSING_S = 30.0

Work = Callable[[AsyncConnection], Awaitable[T]]
"""Statements on one connection."""

Values = Mapping[str, Any]
Rows = Sequence[Row[*tuple[Any, ...]]]


class Database:
    """One database: its connections, and the work under way on them.

    Work that has begun runs to its end, in a task of its own, even if its caller is cancelled. A
    statement that is broken off leaves its connection in an unknown state: on SQLite a transaction
    broken off keeps the write lock until its cursors are collected. Only the wait for a connection
    can be broken off, so the work that goes on without its caller is bounded.

    Every method raises DatabaseUnavailable.
    """

    def __init__(self, engine: AsyncEngine, connections: int) -> None:
        self.engine = engine
        self._connections = asyncio.Semaphore(connections)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._emptying = asyncio.Lock()
        self._logged_cause, self._logged_at = "", 0.0
        self._log_holds_erased = True  # the process before may have left some

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
            if cause != self._logged_cause or now > self._logged_at + _LOGGED_AGAIN_S:
                self._logged_cause, self._logged_at = cause, now
                log.error(cause)
            raise _unavailable(error) from error

    async def fetch(self, statement: Executable, values: Values | None = None) -> Rows:
        """The rows of a single statement."""

        async def fetch(connection: AsyncConnection) -> Rows:
            return (await connection.execute(statement, values)).all()

        return await self.run(fetch)

    async def change(self, statement: Executable, values: Values | None = None) -> int:
        """The number of rows that a statement changes, which is committed at once."""

        async def change(connection: AsyncConnection) -> int:
            return (await connection.execute(statement, values)).rowcount

        with to_the_end():
            return await self.run(change)

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
        task = asyncio.create_task(work, context=without_deadline())
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

        Where a reader is in the way, this retries for two seconds, with writers in between; after
        that the next call tries again.
        """
        if self.dialect == "sqlite" and self._log_holds_erased:
            with to_the_end():
                await self.whole(self._empty_log())

    async def settle(self) -> None:
        """Wait for the work under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_CLOSING_S)

    async def close(self) -> None:
        """Wait for the work under way, then close the connections."""
        await self.settle()
        await self.engine.dispose()

    async def _connected(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(POOL_TIMEOUT_S):
                await self._connections.acquire()
        except BaseException as error:
            work.close()
            if isinstance(error, TimeoutError):
                raise DatabaseUnavailable("all database connections are in use") from error
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
        log.warning(
            "erased text is still in the database's write-ahead log; emptying it is retried"
        )


def _log_unheard(task: asyncio.Task[Any]) -> None:
    """Log a fault of this program that the task's caller is no longer there to raise."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, ServiceError):
        log.error("a database task failed after its caller was cancelled", exc_info=error)


async def _checkpoint(connection: AsyncConnection) -> bool:
    """Empty SQLite's log; False: another connection reads or writes at the moment."""
    usual_ms = round(connection.engine.get_execution_options()["command_timeout_s"] * 1000)
    await connection.exec_driver_sql(f"PRAGMA busy_timeout={_CHECKPOINT_MS}")
    try:
        row = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).one()
    finally:
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={usual_ms}")
    return not row[0]


def open_database(url: str | URL, *, command_timeout_s: float = COMMAND_TIMEOUT_S) -> Database:
    """Prepare a database for use; the first statement connects to it.

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
        engine = postgresql_engine(make_url(url), command_timeout_s)
        return Database(engine, POSTGRESQL_CONNECTIONS)
    try:
        make_sqlite_file(file)
    except OSError as error:
        raise _unavailable(error) from error
    return Database(sqlite_engine(make_url(url), command_timeout_s), SQLITE_CONNECTIONS)


_OUTSIDE = (DBAPIError, sqlite3.Error, OSError, TimeoutError, PoolTimeout)


def _unavailable(error: Exception) -> DatabaseUnavailable:
    lost = isinstance(error, OSError | TimeoutError | PoolTimeout)
    if isinstance(error, DBAPIError):
        lost = error.statement is None or error.connection_invalidated
    elif isinstance(error, sqlite3.Error):
        lost = getattr(error, "sqlite_errorcode", None) in _SQLITE_LOST
    return DatabaseUnavailable(
        f"the database {'does not answer' if lost else 'cannot carry out the statement'}"
    )
