"""Dialogues and their utterances."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "dialogues",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("speaker_count", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dialogues"),
    )
    op.create_table(
        "utterances",
        sa.Column("dialogue_id", sa.Text, nullable=False),
        sa.Column("index", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("speaker", sa.Text, nullable=False),
        sa.Column("speaker_index", sa.Integer, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("label_space", sa.Text, nullable=False),
        sa.Column("prediction", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("dialogue_id", "index", name="pk_utterances"),
        sa.ForeignKeyConstraint(
            ["dialogue_id"],
            ["dialogues.id"],
            name="fk_utterances_dialogue_id",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_utterances_dialogue_id_speaker_speaker_index",
        "utterances",
        ["dialogue_id", "speaker", "speaker_index"],
    )
