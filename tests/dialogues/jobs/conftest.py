"""Both databases: every test that asks for `url` or `database` runs on each."""

from tests.sessions.conftest import database, sqlite_url, url

__all__ = ["database", "sqlite_url", "url"]
