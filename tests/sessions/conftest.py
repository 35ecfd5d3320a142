"""Both databases, real ones: every test that asks for `url`, `database` or `store` runs on each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.sessions.database import Database, open_database
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path}/dialogues.sqlite3"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database of either kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    server_url: str = request.getfixturevalue(name)
    return server_url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A database with the tables."""
    database = open_database(url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[SessionStore]:
    store = SessionStore(database)
    yield store
    await store.close()
