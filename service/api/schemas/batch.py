"""Schemas of batches and jobs."""

from datetime import datetime
from typing import Annotated, Literal, NotRequired

from pydantic import ConfigDict, FailFast, Field
from typing_extensions import TypedDict

from service.api.schemas.dialogues import Recognized
from service.api.schemas.names import LabelSpaceName
from service.api.schemas.summaries import DialogueSummary
from service.conversation.labels import UNIFIED
from service.dialogue_format import DialogueIn, Input
from service.settings import Limits

_DEFAULT = Limits()


class BatchIn(Input):
    """Dialogues to score; nothing of them is stored."""

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
        description=f"With unique ids; at most {_DEFAULT.batch_dialogues:,} dialogues and "
        f"{_DEFAULT.batch_utterances:,} utterances in total, unless configured otherwise."
    )


class ScoredUtterance(Recognized):
    """The emotion of an utterance of a batch."""

    id: NotRequired[Annotated[str, Field(description="your id of the utterance, if you sent one")]]
    start: NotRequired[
        Annotated[float, Field(description="when it begins, in seconds, if you sent that")]
    ]
    end: NotRequired[
        Annotated[float, Field(description="when it ends, in seconds, if you sent that")]
    ]
    role: NotRequired[
        Annotated[str, Field(description="the speaker's part in the dialogue, if you sent one")]
    ]


class ScoredDialogue(TypedDict):
    """A dialogue of a batch, with the emotion of each utterance."""

    id: str
    utterances: list[ScoredUtterance]
    summary: NotRequired[Annotated[DialogueSummary, Field(description="only with `summary=true`")]]


class BatchOut(TypedDict):
    """One result per dialogue, in input order."""

    results: list[ScoredDialogue]


class JobOut(TypedDict):
    """The state of a job."""

    id: str
    state: Literal["receiving", "queued", "running", "done"]
    label_space: str
    dialogues: Annotated[
        int | None, Field(description="the number of dialogues; null until all are received")
    ]
    done: Annotated[int, Field(description="how many have a result")]
    failed: Annotated[int, Field(description="how many have an error as their result")]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    results: Annotated[str, Field(description="the path of the results")]
