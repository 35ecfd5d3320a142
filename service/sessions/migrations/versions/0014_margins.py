"""Utterances say by how much the most probable label leads, and whether a person has labelled them.

Lists are sorted by the first and leave out the second; how many there are of each is counted.
"""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_ROWS = 500  # in memory at once
_PARTS = 16

_Place = tuple[str, str, int]  # tenant, label space, part


def upgrade() -> None:
    op.add_column("utterances", sa.Column("margin", sa.Double))
    op.add_column(
        "utterances",
        sa.Column("corrected", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "utterance_counts",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("label_space", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("utterances", sa.Integer, nullable=False),
        sa.Column("corrected", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "label_space", "part", name="pk_utterance_counts"),
    )
    _read_predictions()
    for name in ("margin", "created_at"):
        op.create_index(
            f"ix_utterances_{name}",
            "utterances",
            ["tenant", "label_space", "corrected", name, "dialogue_id", "index"],
            sqlite_where=sa.text("margin IS NOT NULL"),
            postgresql_where=sa.text("margin IS NOT NULL"),
        )


def _read_predictions() -> None:
    key = ("tenant", "dialogue_id", "index")
    names = (*key, "label", "label_space", "prediction", "margin", "corrected")
    table = sa.table("utterances", *map(sa.column, names))
    corrections = sa.table("corrections", *map(sa.column, key))
    columns = table.c.tenant, table.c.dialogue_id, table.c.index
    is_corrected = sa.exists().where(*(table.c[name] == corrections.c[name] for name in key))
    written = (
        sa.update(table)
        .where(*(column == sa.bindparam(f"of_{column.name}") for column in columns))
        .values(
            margin=sa.bindparam("margin", type_=sa.Double()),
            corrected=sa.bindparam("corrected", type_=sa.Boolean()),
        )
    )
    utterances: Counter[_Place] = Counter()
    corrected: Counter[_Place] = Counter()
    connection, last = op.get_bind(), None
    while True:
        asked = sa.select(
            *columns,
            table.c.label,
            table.c.label_space,
            sa.cast(table.c.prediction, sa.Text),
            is_corrected,
        )
        asked = asked.order_by(*columns).limit(_ROWS)
        if last is not None:
            asked = asked.where(sa.tuple_(*columns) > last)
        rows: Sequence[Any] = connection.execute(asked).all()
        if not rows:
            break
        read = []
        for tenant, dialogue_id, index, label, label_space, prediction, has_correction in rows:
            margin = None if label is None else _margin(json.loads(prediction))
            if margin is None and not has_correction:
                continue
            read.append(
                {
                    "of_tenant": tenant,
                    "of_dialogue_id": dialogue_id,
                    "of_index": index,
                    "margin": margin,
                    "corrected": bool(has_correction),
                }
            )
            if margin is not None:
                place = (tenant, label_space, zlib.crc32(dialogue_id.encode()) % _PARTS)
                utterances[place] += 1
                corrected[place] += bool(has_correction)
        if read:
            connection.execute(written, read)
        last = tuple(rows[-1][: len(columns)])
    _count(utterances, corrected)


def _margin(prediction: dict[str, Any]) -> float | None:
    probabilities = prediction.get("emotion", {}).get("probabilities", {})
    if not probabilities:
        return None
    following, highest = sorted((0.0, *probabilities.values()))[-2:]
    return float(highest - following)


def _count(utterances: Counter[_Place], corrected: Counter[_Place]) -> None:
    names = ("tenant", "label_space", "part", "utterances", "corrected")
    table = sa.table("utterance_counts", *map(sa.column, names))
    rows = [
        {
            "tenant": tenant,
            "label_space": label_space,
            "part": part,
            "utterances": count,
            "corrected": corrected[tenant, label_space, part],
        }
        for (tenant, label_space, part), count in utterances.items()
    ]
    if rows:
        op.get_bind().execute(sa.insert(table), rows)
