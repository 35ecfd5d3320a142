"""Brings the database to the newest version of the tables.

A new version: `alembic revision -m "what changes"` writes a file in `migrations/versions`.
"""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from service.sessions.database import answering, open_database, transactional

# A change to a large table takes longer than any request may.
MIGRATION_TIMEOUT_S = 600.0

# Any number, the same in every process.
_ADVISORY_LOCK = int.from_bytes(b"sessions")


async def migrate(engine: AsyncEngine) -> None:
    """Bring the tables to the newest version: all of it or, after a failure, nothing.

    Processes that start together do it one after the other; the later ones find nothing to do.

    Raises:
        DatabaseUnavailable: the database does not answer or refuses.
    """
    patient = open_database(engine.url, command_timeout_s=MIGRATION_TIMEOUT_S)
    try:
        with answering():
            async with transactional(patient).begin() as connection:
                if connection.dialect.name == "postgresql":  # SQLite's transaction is the lock
                    await connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                await connection.run_sync(_upgrade)
    finally:
        await patient.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "service.sessions:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
