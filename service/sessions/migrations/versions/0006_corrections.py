"""The corrections of utterances, and the demonstrations that still have to follow them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "corrections",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("dialogue_id", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("label_space", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("demonstration_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "dialogue_id", "index", name="pk_corrections"),
        sa.ForeignKeyConstraint(
            ["tenant", "dialogue_id", "index"],
            ["utterances.tenant", "utterances.dialogue_id", "utterances.index"],
            name="fk_corrections_tenant_dialogue_id_index",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_corrections_tenant_demonstration_id",
        "corrections",
        ["tenant", "demonstration_id"],
        unique=True,
    )
    op.create_table(
        "deliveries",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("demonstration_id", sa.Text, nullable=False),
        sa.Column("mark", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "demonstration_id", name="pk_deliveries"),
    )
