"""What writes dialogues: a turn costs one wait, for one statement or for one shared commit."""

from datetime import datetime
from typing import Protocol, TypedDict

from service.sessions.answers import AnswerRow
from service.sessions.erasure import Erased


class UtteranceRow(TypedDict):
    """An utterance to be stored.

    `index` is the dialogue's length before it, `generation` the dialogue's, `expected` the number
    of its version where that matters, `prediction` JSON.
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


class Writer(Protocol):
    """What it reports as done is on disk; what it fails at is not there.

    Raises SQLAlchemy's or sqlite3's errors.
    """

    async def append(self, row: UtteranceRow, answer: AnswerRow | None = None) -> int | None:
        """Store the dialogue's next utterance, and what is answered; index 0 creates the dialogue.

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
