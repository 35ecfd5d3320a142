"""Brings the database to the newest version of the tables.

A new version: `alembic revision -m "what changes"` writes a file in `migrations/versions`.
"""

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import DatabaseUnavailable
from service.sessions.database import Database, open_database

# A change to a large table takes longer than any request may.
MIGRATION_TIMEOUT_S = 600.0

# Any number, the same in every process.
_ADVISORY_LOCK = int.from_bytes(b"sessions")


async def migrate(database: Database) -> None:
    """Bring the tables to the newest version: all of it or, after a failure, nothing.

    Processes that start together do it one after the other; the later ones find nothing to do.

    Raises:
        DatabaseUnavailable: the database does not answer or refuses, or a newer version of the
            program has made its tables.
    """
    patient = open_database(database.engine.url, command_timeout_s=MIGRATION_TIMEOUT_S)

    async def upgrade(connection: AsyncConnection) -> None:
        if connection.dialect.name == "postgresql":  # SQLite's transaction is the lock
            await connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        await connection.run_sync(_upgrade)

    try:
        await patient.transaction(upgrade)
    except CommandError as error:
        raise DatabaseUnavailable("the tables are of another version of this program") from error
    finally:
        await patient.close()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "service.sessions:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
