"""Dialogues belong to a tenant, and say how often and when they were last written.

On SQLite a table whose key changes is copied, and dropping the old one deletes what refers to it:
so the utterances refer to no dialogue meanwhile.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.drop_index("ix_utterances_dialogue_id_speaker_speaker_index", "utterances")
    with op.batch_alter_table("utterances") as table:
        table.drop_constraint("fk_utterances_dialogue_id", type_="foreignkey")
        table.add_column(_tenant())
    with op.batch_alter_table("dialogues") as table:
        table.add_column(_tenant())
        table.add_column(sa.Column("version", sa.Integer, nullable=False, server_default="0"))
        table.add_column(sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        """
        UPDATE dialogues SET changed_at = coalesce(
            (SELECT max(created_at) FROM utterances WHERE dialogue_id = dialogues.id),
            created_at)"""
    )
    with op.batch_alter_table("dialogues") as table:
        table.alter_column("tenant", existing_type=sa.Text, server_default=None)
        table.alter_column("changed_at", existing_type=sa.DateTime(timezone=True), nullable=False)
        table.drop_constraint("pk_dialogues", type_="primary")
        table.create_primary_key("pk_dialogues", ["tenant", "id"])
    with op.batch_alter_table("utterances") as table:
        table.alter_column("tenant", existing_type=sa.Text, server_default=None)
        table.drop_constraint("pk_utterances", type_="primary")
        table.create_primary_key("pk_utterances", ["tenant", "dialogue_id", "index"])
        table.create_foreign_key(
            "fk_utterances_tenant_dialogue_id",
            "dialogues",
            ["tenant", "dialogue_id"],
            ["tenant", "id"],
            ondelete="CASCADE",
        )
    op.create_index(
        "ix_utterances_tenant_dialogue_id_speaker_speaker_index",
        "utterances",
        ["tenant", "dialogue_id", "speaker", "speaker_index"],
    )
    op.create_index("ix_dialogues_changed_at", "dialogues", ["changed_at"])


def _tenant() -> sa.Column[str]:
    """What there is belongs to those who need no key to ask for it."""
    return sa.Column("tenant", sa.Text, nullable=False, server_default="default")
