"""Dialogues that have the same id one after the other are told apart."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # A constant default, so that neither database rewrites the table.
    op.add_column(
        "dialogues", sa.Column("generation", sa.BigInteger, nullable=False, server_default="0")
    )
