"""Both databases, real ones: every test that asks for `url`, `engine` or `store` runs on each."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from service.sessions.database import open_database
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
    found: str = request.getfixturevalue(name)
    return found


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """A database with the tables."""
    engine = open_database(url)
    await migrate(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
async def store(engine: AsyncEngine) -> AsyncIterator[SessionStore]:
    store = SessionStore(engine)
    yield store
    await store.close()
