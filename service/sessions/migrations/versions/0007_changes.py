"""Utterances and corrections say at which version of their dialogue they were written.

Of what there is, the utterances come first and then the corrections, as if written in that order.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column(
        "utterances", sa.Column("version", sa.Integer, nullable=False, server_default="0")
    )
    op.execute('UPDATE utterances SET version = "index" + 1')
    op.create_table(
        "changes",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("dialogue_id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("index", sa.Integer, nullable=False),
        sa.Column("label_space", sa.Text),
        sa.Column("label", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "dialogue_id", "version", name="pk_changes"),
        sa.ForeignKeyConstraint(
            ["tenant", "dialogue_id"],
            ["dialogues.tenant", "dialogues.id"],
            name="fk_changes_tenant_dialogue_id",
            ondelete="CASCADE",
        ),
    )
    op.execute(
        """
        INSERT INTO changes (tenant, dialogue_id, version, "index", label_space, label, created_at)
        SELECT c.tenant, c.dialogue_id,
            d.length + row_number() OVER (
                PARTITION BY c.tenant, c.dialogue_id ORDER BY c.created_at, c."index"),
            c."index", c.label_space, c.label, c.created_at
        FROM corrections AS c JOIN dialogues AS d ON d.tenant = c.tenant AND d.id = c.dialogue_id"""
    )
    op.execute(
        """
        UPDATE dialogues SET version = length + (
            SELECT count(*) FROM changes
            WHERE changes.tenant = dialogues.tenant AND changes.dialogue_id = dialogues.id)
        WHERE version < length + (
            SELECT count(*) FROM changes
            WHERE changes.tenant = dialogues.tenant AND changes.dialogue_id = dialogues.id)"""
    )
