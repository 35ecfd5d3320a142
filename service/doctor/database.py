"""Checks of the database: reachable, its tables' version, writable."""

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, inspect, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.doctor.findings import Fault
from service.sessions.database import open_database
from service.sessions.database_failures import cause_of, is_ours
from service.sessions.engines import sqlite_file, transactional
from service.sessions.schema import VERSION_TABLE, metadata
from service.settings import Settings

_LOCK_S = 2.0
_ALL_S = 15.0


def database(settings: Settings) -> str:
    """Check the tables, and briefly take the lock that a write needs."""
    try:
        configured = settings.database.url.get_secret_value()
        file, url = sqlite_file(configured), make_url(configured)
        return asyncio.run(_postgresql(url)) if file is None else _sqlite(file)
    except Fault:
        raise
    except ValueError as error:
        detail, _, shape = str(error).partition(": write ")
        remedy = f"write it as {shape}" if shape else "correct ERC_DATABASE__URL"
        raise Fault(f"ERC_DATABASE__URL: {detail}", remedy) from None
    except Exception as error:
        if is_ours(error):
            raise
        detail, _, remedy = cause_of(error, url).rpartition(": ")
        raise Fault(detail, remedy) from error


def _sqlite(file: Path) -> str:
    if not os.path.lexists(file):
        return f"{file} does not exist yet: a start creates it"
    uri = f"{file.as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_S)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")  # the write lock
        try:
            rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            tables = {str(name) for (name,) in rows}
            versions = []
            if VERSION_TABLE in tables:
                versions = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()
        finally:
            connection.execute("ROLLBACK")
    return _tables(f"the SQLite file {file}", tables, [str(number) for (number,) in versions])


async def _postgresql(url: URL) -> str:
    database = open_database(url)
    try:
        async with asyncio.timeout(_ALL_S), transactional(database.engine).connect() as connection:
            return await _postgresql_tables(connection)
    finally:
        await database.close()


async def _postgresql_tables(connection: AsyncConnection) -> str:
    row = (
        await connection.execute(
            text(
                "SELECT current_setting('server_version') AS release,"
                " current_setting('transaction_read_only') AS read_only,"
                " current_schema() AS schema, current_database() AS database,"
                " has_schema_privilege(current_schema(), 'CREATE') AS makes_tables"
            )
        )
    ).one()
    where = f'database "{row.database}" of PostgreSQL {row.release}'
    if row.read_only == "on":
        raise Fault(
            f"{where} cannot be written to, as on a standby",
            "set ERC_DATABASE__URL to the primary",
        )
    if row.schema is None:
        raise Fault(f"{where} has no schema for the tables", "create it, or set the search_path")
    tables = set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    if VERSION_TABLE not in tables and not row.makes_tables:
        raise Fault(
            f'in {where} this role may not create tables in the schema "{row.schema}"',
            "GRANT CREATE on it, or have its owner run `instructerc migrate`",
        )
    versions: list[str] = []
    if VERSION_TABLE in tables:
        numbers = await connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        versions = [str(number) for (number,) in numbers]
    detail = _tables(where, tables, versions)
    if ours := sorted(tables & set(metadata.tables)):
        # This needs the right to write, waits for other locks on the tables, and changes nothing.
        await connection.execute(text(f"SET LOCAL lock_timeout = {int(1000 * _LOCK_S)}"))
        await connection.execute(text(f"LOCK TABLE {', '.join(ours)} IN ROW EXCLUSIVE MODE"))
    return detail


def _tables(where: str, tables: set[str], versions: Sequence[str]) -> str:
    """Describe the tables as a start would find them.

    Args:
        versions: the rows of the version table: one, or none in a new database.
    """
    known, ours = _known_versions(), set(metadata.tables)
    if not versions:
        if foreign := sorted(ours & tables):
            raise Fault(
                f"{where} has tables of another program: {', '.join(foreign)}",
                "set ERC_DATABASE__URL to a database of the service's own",
            )
        return f"{where} has no tables yet: a start creates them"
    version = ", ".join(versions)
    if version not in known:
        raise Fault(
            f"{where} has tables of a newer version of this program ({version}, not {known[-1]})",
            "start that version, or restore a backup made before it first ran",
        )
    if version != known[-1]:
        raise Fault(
            f"{where} has tables of an older version ({version}, not {known[-1]})",
            "make a backup, then run `instructerc migrate` or start the service",
            "warning",
        )
    if missing := sorted(ours - tables):
        raise Fault(f"{where} lacks the tables {', '.join(missing)}", "restore a backup")
    return f"{where} has the newest tables ({version}) and can be written to"


def _known_versions() -> list[str]:
    """The versions of the tables, oldest first."""
    config = Config()
    config.set_main_option("script_location", "service.sessions:migrations")
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    return [script.revision for script in scripts][::-1]
