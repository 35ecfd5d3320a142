"""Batches that are scored while nobody waits: what is to be done, and the results."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("label_space", sa.Text, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("started_at", moment),
        sa.Column("finished_at", moment),
        sa.Column("dialogues", sa.Integer),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_tenant", "jobs", ["tenant"])
    _of_a_job(
        "job_work",
        sa.Column("dialogues", sa.Text, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("leased_until", moment),
    )
    _of_a_job("job_results", sa.Column("results", sa.Text, nullable=False))


def _of_a_job(name: str, *columns: "sa.Column[object]") -> None:
    op.create_table(
        name,
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        *columns,
        sa.PrimaryKeyConstraint("job_id", "number", name=f"pk_{name}"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=f"fk_{name}_job_id", ondelete="CASCADE"
        ),
    )
