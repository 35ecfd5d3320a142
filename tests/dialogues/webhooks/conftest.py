"""Both databases: every test that asks for `url`, `database` or `store` runs on each."""

from tests.sessions.conftest import database, sqlite_url, store, url

__all__ = ["database", "sqlite_url", "store", "url"]
