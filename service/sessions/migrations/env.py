"""Alembic's entry: runs the versions on the connection that `service.sessions.migrate` hands over.

The connection is in a transaction already, so Alembic begins and commits none.
"""

from alembic import context

from service.sessions.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
