"""Both databases: every test that asks for `url` runs on each."""

from tests.sessions.conftest import sqlite_url, url

__all__ = ["sqlite_url", "url"]
