"""Utterances may come with what the scene looked like."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("utterances", sa.Column("description", sa.Text))
