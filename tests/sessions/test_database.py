"""Opening a database, and what is said when it fails."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, select
from sqlalchemy.ext.asyncio import AsyncEngine

from service.errors import DatabaseUnavailable
from service.sessions.database import (
    answering,
    connect_to_sqlite,
    open_database,
    transactional,
)
from service.sessions.migrate import migrate
from service.sessions.schema import corrections, dialogues, utterances
from service.sessions.store import SessionStore, Tail


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
    engine = open_database(sqlite_url)
    async with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            found = (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one()
            assert found == value
    with closing(connect_to_sqlite(engine)) as beside:
        assert beside.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    await engine.dispose()


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"])
async def test_a_sqlite_file_is_made_with_its_folders(tmp_path: Path, scheme: str) -> None:
    """Any driver suffix means the same file."""
    file = tmp_path / "new" / "folders" / "dialogues.sqlite3"
    engine = open_database(f"{scheme}:///{file}")
    await migrate(engine)
    await SessionStore(engine).ping()
    await engine.dispose()

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
    engine = open_database(name.set(username="guarded", password=None))
    try:
        monkeypatch.setenv("PGPASSWORD", "hunter1")
        with pytest.raises(DatabaseUnavailable):
            await ask_for_nothing(engine)

        monkeypatch.setenv("PGPASSWORD", "hunter2")
        await ask_for_nothing(engine)
    finally:
        await engine.dispose()
        access.write_text(rules)
        postgres.psql("DROP ROLE guarded; SELECT pg_reload_conf()")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
async def test_a_postgresql_url_may_carry_any_driver_suffix(postgres_url: str, scheme: str) -> None:
    """Urls come from other tools; the driver is always asyncpg."""
    engine = open_database(postgres_url.replace("postgresql", scheme, 1) + "&sslmode=disable")
    await migrate(engine)
    await SessionStore(engine).ping()
    await engine.dispose()

    assert engine.dialect.driver == "asyncpg"


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
    with pytest.raises(ValueError, match="url") as refused:
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
    engine = open_database(url)

    with pytest.raises(DatabaseUnavailable, match="cannot carry this out"):
        await SessionStore(engine).ping()

    await engine.dispose()


async def test_a_lock_held_too_long_is_unavailable_and_no_longer(url: str) -> None:
    """A writer gives up after the command timeout; once the lock is free, it writes."""
    patient = open_database(url)
    await migrate(patient)
    engine = open_database(url, command_timeout_s=0.2)
    store = SessionStore(engine)
    await ask(store, "append")
    async with transactional(patient).begin() as connection:
        await connection.execute(dialogues.update().values(length=dialogues.c.length))
        with pytest.raises(DatabaseUnavailable):
            await ask(store, "append", index=1)

    await ask(store, "append", index=1)

    await engine.dispose()
    await patient.dispose()


async def test_a_failed_statement_does_not_show_what_people_said(url: str) -> None:
    """The cause goes to the log, which must not hold the text."""
    engine = open_database(url)
    await migrate(engine)
    async with transactional(engine).begin() as connection:
        await connection.run_sync(corrections.drop)
        await connection.run_sync(utterances.drop)

    with pytest.raises(DatabaseUnavailable) as error:
        await ask(SessionStore(engine), "append")

    assert error.value.__cause__ is not None
    assert "door code" not in str(error.value.__cause__)
    await engine.dispose()


async def test_a_stopped_server_is_unavailable_until_it_is_back(
    postgres: Any, postgres_url: str
) -> None:
    """Each request fails by itself; nothing has to be reopened afterwards."""
    engine = open_database(postgres_url)
    await migrate(engine)
    store = SessionStore(engine)
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
    await engine.dispose()


async def test_a_server_that_restarts_between_two_requests_is_not_noticed(
    postgres: Any, postgres_url: str
) -> None:
    """The pool tries a connection before it lends it out, and drops the dead ones."""
    engine = open_database(postgres_url)
    await migrate(engine)
    store = SessionStore(engine)
    await asyncio.gather(*(store.ping() for _ in range(4)))

    postgres.stop()
    postgres.start()

    await ask(store, "append")
    await asyncio.gather(*(store.ping() for _ in range(4)))
    await engine.dispose()


async def ask_for_nothing(engine: AsyncEngine) -> None:
    """Connect, and ask something that needs no tables."""
    with answering():
        async with engine.connect() as connection:
            await connection.execute(select(1))


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
