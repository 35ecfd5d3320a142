"""Dialogues say what they were like: labels, valences, and their sums, by which lists are sorted.

What there is gets the valences of the label spaces as they are at this version; an answer in
another label space has none.
"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_ROWS = 500  # in memory at once
_UNIT = 1_000_000

_UNIFIED = {
    "neutral": 0.0,
    **dict.fromkeys(("joyful", "excited", "peaceful"), 1.0),
    "powerful": 0.65 - 0.35,
    **dict.fromkeys(("sad", "mad", "fear", "disgust"), -1.0),
}
_MELD = {
    "neutral": 0.0,
    "joy": 1.0,
    "surprise": 0.49 - 0.51,
    **dict.fromkeys(("fear", "sadness", "disgust", "anger"), -1.0),
}
_DAILYDIALOG = {
    "no emotion": 0.0,
    "happiness": 1.0,
    "surprise": 0.49 - 0.51,
    **dict.fromkeys(("anger", "disgust", "fear", "sadness"), -1.0),
}
_EMORYNLP = {
    "neutral": 0.0,
    **dict.fromkeys(("joyful", "peaceful", "powerful"), 1.0),
    **dict.fromkeys(("mad", "sad", "scared"), -1.0),
}
_IEMOCAP = {
    "neutral": 0.0,
    **dict.fromkeys(("happy", "excited"), 1.0),
    **dict.fromkeys(("sad", "angry", "frustrated"), -1.0),
}
_SENTIMENT = {"positive": 1.0, "neutral": 0.0, "negative": -1.0}
_WEIGHTS = {
    "unified": _UNIFIED,
    "meld": _MELD,
    "dailydialog": _DAILYDIALOG,
    "emorynlp": _EMORYNLP,
    "iemocap": _IEMOCAP,
    "sentiment": _SENTIMENT,
    "meld-sentiment": _SENTIMENT,
    "dailydialog-sentiment": _SENTIMENT,
    "emorynlp-sentiment": _SENTIMENT,
    "iemocap-sentiment": _SENTIMENT,
}

_EFFECTIVE = """
    SELECT u."index" AS i, coalesce(c.valence, u.valence) AS v
    FROM utterances AS u LEFT JOIN corrections AS c
    ON c.tenant = u.tenant AND c.dialogue_id = u.dialogue_id AND c."index" = u."index"
    WHERE u.tenant = dialogues.tenant AND u.dialogue_id = dialogues.id AND u.label IS NOT NULL"""


def upgrade() -> None:
    _add_columns()
    _read_predictions()
    _read_corrections()
    _sum_up()


def _add_columns() -> None:
    op.add_column("utterances", sa.Column("label", sa.Text))
    op.add_column("utterances", sa.Column("probability", sa.Double))
    op.add_column("utterances", sa.Column("valence", sa.Integer))
    op.add_column("corrections", sa.Column("valence", sa.Integer))
    for part in ("valence", "first", "last"):
        for name, kind in ((f"{part}_count", sa.Integer), (f"{part}_total", sa.BigInteger)):
            column = sa.Column(name, kind, nullable=False, server_default="0")
            op.add_column("dialogues", column)
    for name in ("valence", "shift"):
        op.add_column("dialogues", sa.Column(name, sa.Double))
    for name in ("changed_at", "valence", "shift"):
        op.create_index(f"ix_dialogues_tenant_{name}_id", "dialogues", ["tenant", name, "id"])
    op.create_index(
        "ix_utterances_tenant_dialogue_id_role",
        "utterances",
        ["tenant", "dialogue_id", "role"],
        sqlite_where=sa.text("role IS NOT NULL"),
        postgresql_where=sa.text("role IS NOT NULL"),
    )
    op.create_table(
        "dialogue_labels",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("dialogue_id", sa.Text, nullable=False),
        sa.Column("label_space", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant", "dialogue_id", "label_space", "label", name="pk_dialogue_labels"
        ),
        sa.ForeignKeyConstraint(
            ["tenant", "dialogue_id"],
            ["dialogues.tenant", "dialogues.id"],
            name="fk_dialogue_labels_tenant_dialogue_id",
            ondelete="CASCADE",
        ),
    )


def _read_predictions() -> None:
    figures_of = ("label", "probability", "valence")
    names = ("tenant", "dialogue_id", "index", "label_space", "prediction", *figures_of)
    table = sa.table("utterances", *map(sa.column, names))
    columns = table.c.tenant, table.c.dialogue_id, table.c.index
    written = (
        sa.update(table)
        .where(*(column == sa.bindparam(f"of_{column.name}") for column in columns))
        .values({name: sa.bindparam(name) for name in figures_of})
    )
    connection, last = op.get_bind(), None
    while True:
        asked = sa.select(*columns, table.c.label_space, sa.cast(table.c.prediction, sa.Text))
        asked = asked.order_by(*columns).limit(_ROWS)
        if last is not None:
            asked = asked.where(sa.tuple_(*columns) > last)
        rows = connection.execute(asked).all()
        if not rows:
            return
        read = [
            {"of_tenant": tenant, "of_dialogue_id": dialogue_id, "of_index": index, **figures}
            for tenant, dialogue_id, index, label_space, prediction in rows
            if (figures := _figures(label_space, json.loads(prediction))) is not None
        ]
        if read:
            connection.execute(written, read)
        last = tuple(rows[-1][: len(columns)])


def _figures(label_space: str, prediction: dict[str, Any]) -> dict[str, Any] | None:
    emotion = prediction.get("emotion", {})
    label, probability = emotion.get("label"), emotion.get("confidence")
    if label is None or probability is None:
        return None
    weights, probabilities = _WEIGHTS.get(label_space, {}), emotion.get("probabilities", {})
    valence = None
    if probabilities and weights.keys() >= probabilities.keys():
        valence = round(_UNIT * sum(weights[name] * p for name, p in probabilities.items()))
    return {"label": label, "probability": probability, "valence": valence}


def _read_corrections() -> None:
    names = ("label_space", "label", "valence")
    table = sa.table("corrections", *map(sa.column, names))
    for label_space, weights in _WEIGHTS.items():
        for label, weight in weights.items():
            is_it = (table.c.label_space == label_space, table.c.label == label)
            op.execute(sa.update(table).where(*is_it).values(valence=round(_UNIT * weight)))


def _sum_up() -> None:
    windows = {
        "valence": "true",
        "first": "i < dialogues.length / 3",
        "last": "i >= dialogues.length - dialogues.length / 3",
    }
    sums = ", ".join(
        f"{name}_count = (SELECT count(v) FROM ({_EFFECTIVE}) AS e WHERE {window}), "
        f"{name}_total = (SELECT coalesce(sum(v), 0) FROM ({_EFFECTIVE}) AS e WHERE {window})"
        for name, window in windows.items()
    )
    op.execute(f"UPDATE dialogues SET {sums} WHERE length > 0")
    op.execute(
        "UPDATE dialogues SET valence = CAST(valence_total AS DOUBLE PRECISION) "
        "/ valence_count / 1e6 "
        "WHERE valence_count > 0"
    )
    op.execute(
        "UPDATE dialogues SET "
        "shift = (CAST(last_total AS DOUBLE PRECISION) / last_count "
        "- CAST(first_total AS DOUBLE PRECISION) / first_count) / 1e6 "
        "WHERE first_count > 0 AND last_count > 0"
    )
    op.execute(
        """
        INSERT INTO dialogue_labels (tenant, dialogue_id, label_space, label, count, probability)
        SELECT u.tenant, u.dialogue_id, u.label_space, coalesce(c.label, u.label), count(*),
            max(CASE WHEN c.label IS NULL THEN u.probability ELSE 1 END)
        FROM utterances AS u LEFT JOIN corrections AS c
        ON c.tenant = u.tenant AND c.dialogue_id = u.dialogue_id AND c."index" = u."index"
            AND c.label_space = u.label_space
        WHERE u.label IS NOT NULL
        GROUP BY u.tenant, u.dialogue_id, u.label_space, coalesce(c.label, u.label)"""
    )
