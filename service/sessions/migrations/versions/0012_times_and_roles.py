"""Utterances may come with when they were spoken, and with the speaker's part in the dialogue."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("utterances", sa.Column("start", sa.Double))
    op.add_column("utterances", sa.Column("end", sa.Double))
    op.add_column("utterances", sa.Column("role", sa.Text))
