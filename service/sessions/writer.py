"""The writers of dialogues: a turn costs one wait, for one statement or for one shared commit.

Both databases share the parts of an append: a dialogue's row is created, or it grows.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, TypedDict

from sqlalchemy import BindParameter, Dialect, Text, bindparam, case, func, update
from sqlalchemy.sql.dml import ReturningInsert

from service.sessions.erasure import Erased
from service.sessions.idempotency import AnswerRow
from service.sessions.schema import dialogues, insert_into, parameters_of, utterances
from service.sessions.tallies import first_tally, grown_tally
from service.sessions.webhooks import WebhookRow


class UtteranceRow(TypedDict):
    """An utterance to be stored.

    `index` is the dialogue's length before it, `generation` the dialogue's, `expected` the number
    of its version where that matters, `prediction` JSON; the last four are as of `Figures`.
    """

    tenant: str
    dialogue_id: str
    generation: int
    expected: int | None
    index: int
    speaker: str
    speaker_index: int
    text: str
    label_space: str
    prediction: str
    created_at: datetime
    description: str | None
    start: float | None
    end: float | None
    role: str | None
    label: str | None
    probability: float | None
    valence: int | None
    margin: float | None


class Writer(Protocol):
    """Writes dialogues. A write that returns is on disk; one that raises has stored nothing.

    Raises errors of SQLAlchemy or sqlite3.
    """

    async def append(
        self,
        row: UtteranceRow,
        answer: AnswerRow | None = None,
        webhooks: Sequence[WebhookRow] = (),
    ) -> int | None:
        """Store the dialogue's next utterance, what is answered, and whom it is told of.

        Index 0 creates the dialogue.

        Returns the number of the dialogue's version then. None: the dialogue is not as long as
        `index`, of another generation or version, or the answer's key has an answer; nothing is
        stored.
        """
        ...

    async def erase_portion(
        self,
        tenant: str,
        dialogue_id: str,
        generation: int | None = None,
        number: int | None = None,
        answer: AnswerRow | None = None,
    ) -> Erased | None:
        """Erase a dialogue's end, or with its last portion all of it, and keep what is answered.

        Args:
            generation, number: of the version that the dialogue must be of; None: any.

        None: there is no such dialogue, or the answer's key has an answer; nothing is erased.
        """
        ...

    async def erase_before(self, moment: datetime, limit: int) -> list[Erased]:
        """Erase a portion of the dialogues last written before a moment, oldest first.

        At most `limit` dialogues, one of which may not be whole.
        """
        ...

    async def ping(self) -> None:
        """Return when this process may write."""
        ...

    async def close(self) -> None: ...


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
        **first_tally(),
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
        **grown_tally(),
    )
    .returning(dialogues.c.version)
)
"""Count one more utterance; returns the version, or no row where the dialogue is another one."""


def utterance_parameters() -> dict[str, BindParameter[Any]]:
    """A parameter for each column of a new utterance; the prediction's is JSON already."""
    parameters = parameters_of(utterances) | {"prediction": bindparam("prediction", type_=Text())}
    del parameters["corrected"]  # by default it is not
    return parameters
