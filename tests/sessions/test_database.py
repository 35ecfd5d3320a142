"""Opening a database, and what is said when it fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, make_url, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import DatabaseUnavailable
from service.sessions.database import Database, open_database
from service.sessions.engines import SQLITE_CONNECTIONS, connect_to_sqlite, transactional
from service.sessions.migrate import migrate
from service.sessions.schema import corrections, deliveries, dialogues, utterances, webhooks
from service.sessions.store import SessionStore
from service.sessions.tails import Tail
from tests.clock import PATIENT_S

ROW = {"tenant": "one", "demonstration_id": "d", "mark": 1}


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),  # FULL
        ("foreign_keys", 1),
        ("secure_delete", 1),
        ("busy_timeout", 10_000),  # milliseconds
    ],
)
async def test_every_sqlite_connection_is_set_up(
    sqlite_url: str, pragma: str, value: object
) -> None:
    """A pragma holds for a connection: the pool's later ones and the writer's need it too."""
    database = open_database(sqlite_url)
    async with database.engine.connect() as first, database.engine.connect() as second:
        for connection in (first, second):
            setting = (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one()
            assert setting == value
    with closing(connect_to_sqlite(database.engine)) as beside:
        assert beside.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    await database.close()


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"])
async def test_a_sqlite_file_is_made_with_its_folders(tmp_path: Path, scheme: str) -> None:
    """Any driver suffix means the same file."""
    file = tmp_path / "new" / "folders" / "dialogues.sqlite3"
    database = open_database(f"{scheme}:///{file}")
    await migrate(database)
    await SessionStore(database).ping()
    await database.close()

    assert file.stat().st_size > 0


async def test_a_password_may_come_apart_from_the_url(
    postgres: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq's PGPASSWORD, for deployments where the password alone is a secret."""
    access = Path(postgres.pgdata) / "pg_hba.conf"
    rules = access.read_text()
    access.write_text("local all guarded scram-sha-256\n" + rules)
    postgres.psql("CREATE ROLE guarded LOGIN PASSWORD 'hunter2'; SELECT pg_reload_conf()")
    name = make_url(postgres_url)
    database = open_database(name.set(username="guarded", password=None))
    try:
        monkeypatch.setenv("PGPASSWORD", "hunter1")
        with pytest.raises(DatabaseUnavailable):
            await ask_for_nothing(database)

        monkeypatch.setenv("PGPASSWORD", "hunter2")
        await ask_for_nothing(database)
    finally:
        await database.close()
        access.write_text(rules)
        postgres.psql("DROP ROLE guarded; SELECT pg_reload_conf()")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
async def test_a_postgresql_url_may_carry_any_driver_suffix(postgres_url: str, scheme: str) -> None:
    """Urls come from other tools; the driver is always asyncpg."""
    database = open_database(postgres_url.replace("postgresql", scheme, 1) + "&sslmode=disable")
    await migrate(database)
    await SessionStore(database).ping()
    await database.close()

    assert database.engine.dialect.driver == "asyncpg"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3cret",
        "ann:s3cret@host/db",
        "mysql://ann:s3cret@host/db",
        "postgresql://ann:s3cret@host",
        "postgresql://ann:s3cret@host:port/db",
        "postgresql://ann:s3cret@host/db?pool=s3cret",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file.sqlite3?mode=s3cret",
        "sqlite://ann:s3cret@host/file.sqlite3",
    ],
)
def test_a_url_of_another_kind_is_refused_without_showing_it(url: str) -> None:
    """The message says what to write and never what was written."""
    with pytest.raises(ValueError, match="URL") as refused:
        open_database(url)

    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("question", ["ping", "tail", "append", "timeline", "delete"])
async def test_a_server_that_does_not_listen_is_unavailable(question: str) -> None:
    """Whatever is asked, the answer is ours and names neither the place nor the password."""
    store = SessionStore(open_database("postgresql://ann:s3cret@127.0.0.1:1/db"))

    with pytest.raises(DatabaseUnavailable) as error:
        await ask(store, question)

    assert str(error.value) == "the database does not answer"


@pytest.mark.parametrize("question", ["ping", "tail", "append", "timeline", "delete"])
async def test_a_directory_in_place_of_the_file_is_unavailable(
    tmp_path: Path, question: str
) -> None:
    """SQLite cannot open it, and the path stays out of the message."""
    store = SessionStore(open_database(f"sqlite:///{tmp_path}"))

    with pytest.raises(DatabaseUnavailable) as error:
        await ask(store, question)

    assert str(error.value) == "the database does not answer"


async def test_a_file_in_place_of_the_folder_is_unavailable(tmp_path: Path) -> None:
    """It shows when the database is opened, because the folder is made then."""
    (tmp_path / "file").touch()

    with pytest.raises(DatabaseUnavailable):
        open_database(f"sqlite:///{tmp_path}/file/dialogues.sqlite3")


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """And it is left as it was."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database " * 100)

    with pytest.raises(DatabaseUnavailable):
        await migrate(open_database(f"sqlite:///{file}"))

    assert file.read_text() == "not a database " * 100


async def test_a_database_without_the_tables_is_not_ready(url: str) -> None:
    """`ping` tells, so that no request has to find out."""
    database = open_database(url)

    with pytest.raises(DatabaseUnavailable, match="cannot carry out the statement"):
        await SessionStore(database).ping()

    await database.close()


async def test_a_lock_held_too_long_is_unavailable_and_no_longer(url: str) -> None:
    """A writer gives up after the command timeout; once the lock is free, it writes."""
    patient = open_database(url)
    await migrate(patient)
    await ask(SessionStore(patient), "append")
    database = open_database(url, command_timeout_s=0.2)
    store = SessionStore(database)
    async with transactional(patient.engine).begin() as connection:
        await connection.execute(dialogues.update().values(length=dialogues.c.length))
        with pytest.raises(DatabaseUnavailable):
            await ask(store, "append", index=1)

    async with asyncio.timeout(PATIENT_S):
        while not await is_answered(store, "append", index=1):  # a slow machine is late without it
            pass

    await database.close()
    await patient.close()


async def is_answered(store: SessionStore, question: str, index: int) -> bool:
    try:
        await ask(store, question, index)
    except DatabaseUnavailable:
        return False
    return True


async def test_a_failed_statement_does_not_show_what_people_said(url: str) -> None:
    """The cause goes to the log, which must not hold the text."""
    database = open_database(url)
    await migrate(database)
    async with transactional(database.engine).begin() as connection:
        for table in (webhooks, corrections, utterances):
            await connection.run_sync(table.drop)

    with pytest.raises(DatabaseUnavailable) as error:
        await ask(SessionStore(database), "append")

    assert error.value.__cause__ is not None
    assert "door code" not in str(error.value.__cause__)
    await database.close()


async def test_a_stopped_server_is_unavailable_until_it_is_back(
    postgres: Any, postgres_url: str
) -> None:
    """Each request fails by itself; nothing has to be reopened afterwards."""
    database = open_database(postgres_url)
    await migrate(database)
    store = SessionStore(database)
    await asyncio.gather(*(store.ping() for _ in range(4)))

    postgres.stop()
    try:
        for question in ("ping", "tail", "append", "timeline", "delete"):
            with pytest.raises(DatabaseUnavailable, match="does not answer"):
                await ask(store, question)
    finally:
        postgres.start()

    await asyncio.gather(*(store.ping() for _ in range(4)))
    await ask(store, "append")
    await database.close()


async def test_a_server_that_restarts_between_two_requests_is_not_noticed(
    postgres: Any, postgres_url: str
) -> None:
    """The pool tries a connection before it lends it out, and drops the dead ones."""
    database = open_database(postgres_url)
    await migrate(database)
    store = SessionStore(database)
    await asyncio.gather(*(store.ping() for _ in range(4)))

    postgres.stop()
    postgres.start()

    await ask(store, "append")
    await asyncio.gather(*(store.ping() for _ in range(4)))
    await database.close()


async def ask_for_nothing(database: Database) -> None:
    """Connect, and ask something that needs no tables."""
    await database.fetch(select(1))


async def ask(store: SessionStore, question: str, index: int = 0) -> None:
    match question:
        case "ping":
            await store.ping()
        case "tail":
            await store.tail("default", "call-42", "Ann", 5)
        case "timeline":
            await store.timeline("default", "call-42")
        case "delete":
            await store.delete("default", "call-42")
        case _:
            await store.append(
                Tail("default", "call-42", 1, "Ann", 0, length=index, first=index, lines=()),
                text="My door code is 4711.",
                label_space="meld",
                prediction={},
            )


async def test_a_connection_that_is_broken_off_leaves_no_lock(sqlite_url: str) -> None:
    """Its transaction ends at once, though its cursors may live on for long."""
    database = open_database(sqlite_url)
    await migrate(database)
    alive = []

    async def write() -> None:
        async with transactional(database.engine).begin() as connection:
            while True:
                await connection.execute(dialogues.update().values(length=dialogues.c.length))
                alive.append(await connection.execute(select(dialogues)))

    with closing(connect_to_sqlite(database.engine)) as beside:
        beside.execute("PRAGMA busy_timeout=0")
        for wait_s in (0.001, 0.005, 0.02):
            writing = asyncio.create_task(write())
            await asyncio.sleep(wait_s)
            writing.cancel()
            await asyncio.wait([writing])

            beside.execute("BEGIN IMMEDIATE")
            beside.execute("ROLLBACK")
    await database.close()


async def test_what_has_begun_goes_on_when_its_caller_is_cancelled(url: str) -> None:
    """To its commit, and closing waits for it."""
    database = open_database(url)
    await migrate(database)
    begun, may_go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def write(connection: AsyncConnection) -> None:
        await connection.execute(insert(deliveries).values(ROW))
        begun.set()
        await may_go_on.wait()
        await connection.execute(update(deliveries).values(mark=2))
        ended.set()

    writing = asyncio.create_task(database.transaction(write))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not ended.is_set()
    may_go_on.set()
    await database.close()

    assert ended.is_set()
    after = open_database(url)
    assert [row.mark for row in await after.fetch(select(deliveries))] == [2]
    await after.close()


async def test_whoever_waits_for_a_connection_can_leave(sqlite_url: str) -> None:
    """What has not begun is not begun for nobody."""
    database = open_database(sqlite_url)
    await migrate(database)
    may_go_on = asyncio.Event()

    async def hold(_: AsyncConnection) -> None:
        await may_go_on.wait()

    async def write(connection: AsyncConnection) -> None:
        await connection.execute(insert(deliveries).values(ROW))

    holding = [asyncio.create_task(database.run(hold)) for _ in range(SQLITE_CONNECTIONS)]
    waiting = asyncio.create_task(database.run(write))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    may_go_on.set()
    await asyncio.gather(*holding)

    assert await database.fetch(select(deliveries)) == []
    await database.close()


async def test_the_log_is_emptied_once_a_reader_is_out_of_the_way(
    sqlite_url: str, tmp_path: Path
) -> None:
    """Neither the reader nor a writer in between is refused, and closing leaves nothing either."""
    database = open_database(sqlite_url)
    await migrate(database)
    store = SessionStore(database)
    await ask(store, "append")
    log_file = tmp_path / "dialogues.sqlite3-wal"
    with closing(connect_to_sqlite(database.engine)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM utterances").fetchall()
        await store.delete("default", "call-42")
        assert b"door code" in log_file.read_bytes()
        tail = await store.tail("default", "meanwhile", "Bo", 2)
        await store.append(tail, text="Hello.", label_space="meld", prediction={})
        reader.execute("ROLLBACK")

        await store.empty_log()

        assert b"door code" not in log_file.read_bytes()
        assert (await store.timeline("default", "meanwhile")).length == 1
    await store.close()


async def test_a_log_that_could_not_be_emptied_is_emptied_later(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The erasure stands, and is not refused: whoever repeated it would be told of no dialogue."""
    database = open_database(sqlite_url)
    await migrate(database)
    store = SessionStore(database)
    await ask(store, "append")
    log_file = tmp_path / "dialogues.sqlite3-wal"
    with monkeypatch.context() as busy:
        busy.setattr("service.sessions.database.POOL_TIMEOUT_S", 0.01)
        async with AsyncExitStack() as stack:
            for _ in range(SQLITE_CONNECTIONS):
                await stack.enter_async_context(occupied(database))
            await store.delete("default", "call-42")
    assert b"door code" in log_file.read_bytes()

    await store.empty_log()

    assert b"door code" not in log_file.read_bytes()
    await store.close()


@asynccontextmanager
async def occupied(database: Database) -> AsyncIterator[None]:
    """One of the database's connections, in use for the time of the block."""
    taken, over = asyncio.Event(), asyncio.Event()

    async def use(_: AsyncConnection) -> None:
        taken.set()
        await over.wait()

    using = asyncio.create_task(database.run(use))
    await taken.wait()
    try:
        yield
    finally:
        over.set()
        await using


async def test_a_sqlite_file_is_nobody_elses(sqlite_url: str, tmp_path: Path) -> None:
    """Nor are its log and its index, whatever the process's umask."""
    database = open_database(sqlite_url)
    await migrate(database)
    await database.fetch(select(deliveries))

    files = [*tmp_path.iterdir()]  # noqa: ASYNC240
    assert len(files) == 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    await database.close()


async def test_a_database_that_cannot_be_written_is_not_ready(database: Database) -> None:
    """Though it can be read; once the lock is free, it is."""
    store = SessionStore(database)
    await store.ping()
    async with transactional(database.engine).begin() as connection:
        if database.dialect == "postgresql":
            await connection.exec_driver_sql("LOCK TABLE dialogues IN ACCESS EXCLUSIVE MODE")
        with pytest.raises((DatabaseUnavailable, TimeoutError)):
            await asyncio.wait_for(store.ping(), 2)

    await store.ping()
    await store.close()


async def test_a_fault_that_its_caller_has_not_waited_for_is_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else would hear of it."""
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def fail(_: AsyncConnection) -> None:
        begun.set()
        await may_go_on.wait()
        raise LookupError("our own")

    failing = asyncio.create_task(database.transaction(fail))
    await begun.wait()
    failing.cancel()
    await asyncio.wait([failing])
    may_go_on.set()
    await database.close()

    (record,) = (r for r in caplog.records if r.exc_info is not None)
    assert "our own" in str(record.exc_info)
