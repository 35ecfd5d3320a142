"""Schemas of batches and jobs."""

from datetime import datetime
from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, FailFast, Field
from typing_extensions import TypedDict

from service.api.schemas.dialogues import Recognized
from service.api.schemas.names import LabelSpaceName
from service.conversation.labels import UNIFIED
from service.dialogue_format import DialogueIn, Input
from service.settings import Limits

_DEFAULT = Limits()


class BatchIn(Input):
    """Dialogues to score; nothing of them is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label_space": "unified",
                    "dialogues": [
                        {
                            "id": "a",
                            "utterances": [
                                {"speaker": "Ann", "text": "Did you get the job?"},
                                {"speaker": "Bo", "text": "They said yes this morning!"},
                            ],
                        }
                    ],
                }
            ]
        }
    )

    label_space: LabelSpaceName = UNIFIED
    dialogues: Annotated[list[DialogueIn], FailFast()] = Field(
        description=f"Each id once; {_DEFAULT.batch_dialogues:,} dialogues and "
        f"{_DEFAULT.batch_utterances:,} utterances in all unless the service is set otherwise."
    )


class ScoredUtterance(Recognized):
    """What an answer says of an utterance of a batch."""

    id: NotRequired[Annotated[str, Field(description="yours of it, where it had one")]]


class ScoredDialogue(TypedDict):
    """A dialogue of a batch, with the emotion of each utterance."""

    id: str
    utterances: list[ScoredUtterance]


class BatchOut(TypedDict):
    """One result a dialogue, in the order asked."""

    results: list[ScoredDialogue]


class JobOut(TypedDict):
    """How far a job is."""

    id: str
    state: Literal["receiving", "queued", "running", "done"]
    label_space: str
    dialogues: Annotated[
        int | None, Field(description="how many it has; null until all are received")
    ]
    done: Annotated[int, Field(description="those that have a result")]
    failed: Annotated[int, Field(description="those whose result is an error")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    results: Annotated[str, Field(description="where they are")]
