"""The parts of an append that both databases share: a dialogue's row is created, or it grows."""

from typing import Any

from sqlalchemy import BindParameter, Dialect, Text, bindparam, case, func, update
from sqlalchemy.sql.dml import ReturningInsert

from service.sessions.dialects import insert_into, parameters_of
from service.sessions.schema import dialogues, utterances

_speaker_index = bindparam("speaker_index", type_=utterances.c.speaker_index.type)


def create_dialogue(dialect: Dialect) -> ReturningInsert[Any]:
    """Begin a dialogue with its first utterance; returns its version, or no row where it exists."""
    created = insert_into(dialogues, dialect).values(
        tenant=bindparam("tenant"),
        id=bindparam("dialogue_id"),
        generation=bindparam("generation"),
        created_at=bindparam("created_at"),
        changed_at=bindparam("created_at"),
        version=1,
        length=1,
        speaker_count=_speaker_index + 1,
    )
    return created.on_conflict_do_nothing(index_elements=dialogues.primary_key).returning(
        dialogues.c.version
    )


# Holds the dialogue's row until the commit, so that writers take turns.
GROW_DIALOGUE = (
    update(dialogues)
    .where(
        dialogues.c.tenant == bindparam("tenant"),
        dialogues.c.id == bindparam("dialogue_id"),
        dialogues.c.length == bindparam("index"),
        dialogues.c.generation == bindparam("generation"),
        dialogues.c.version
        == func.coalesce(
            bindparam("expected", type_=dialogues.c.version.type), dialogues.c.version
        ),
    )
    .values(
        length=dialogues.c.length + 1,
        version=dialogues.c.version + 1,
        changed_at=bindparam("created_at"),
        speaker_count=case(
            (dialogues.c.speaker_count > _speaker_index, dialogues.c.speaker_count),
            else_=_speaker_index + 1,
        ),
    )
    .returning(dialogues.c.version)
)
"""Count one more utterance; returns the version, or no row where the dialogue is another one."""


def utterance_parameters() -> dict[str, BindParameter[Any]]:
    """A parameter for each column of an utterance; the prediction's is JSON already."""
    return parameters_of(utterances) | {"prediction": bindparam("prediction", type_=Text())}
