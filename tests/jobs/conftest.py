"""Both databases: every test that asks for `url` or `engine` runs on each."""

from tests.sessions.conftest import engine, sqlite_url, url

__all__ = ["engine", "sqlite_url", "url"]
