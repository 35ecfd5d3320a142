"""Corrections are delivered again: their demonstrations take the lines before them into account."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute(
        "INSERT INTO deliveries (tenant, demonstration_id, mark) "
        "SELECT tenant, demonstration_id, 0 FROM corrections "
        "WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.tenant = corrections.tenant "
        "AND d.demonstration_id = corrections.demonstration_id)"
    )
