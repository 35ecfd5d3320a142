"""The answers to requests that carried an idempotency key."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dialogue_id", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "key", name="pk_answers"),
        sa.ForeignKeyConstraint(
            ["tenant", "dialogue_id"],
            ["dialogues.tenant", "dialogues.id"],
            name="fk_answers_tenant_dialogue_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_answers_tenant_dialogue_id", "answers", ["tenant", "dialogue_id"])
    op.create_index("ix_answers_created_at", "answers", ["created_at"])
