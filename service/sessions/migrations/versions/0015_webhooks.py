"""Matches of rules are stored with the utterances that made them, until they are told of."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("dialogue_id", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failure", sa.Text),
        sa.Column("finished_at", moment),
        sa.Column("result", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sa.ForeignKeyConstraint(
            ["tenant", "dialogue_id", "index"],
            ["utterances.tenant", "utterances.dialogue_id", "utterances.index"],
            name="fk_webhooks_tenant_dialogue_id_index",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_webhooks_tenant_dialogue_id_index", "webhooks", ["tenant", "dialogue_id", "index"]
    )
    op.create_index(
        "ix_webhooks_endpoint_due_at",
        "webhooks",
        ["endpoint", "due_at"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "ix_webhooks_finished_at",
        "webhooks",
        ["finished_at"],
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
