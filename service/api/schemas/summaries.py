"""Schemas of summaries and lists of dialogues."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    with_config,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from service.conversation.labels import UNIFIED
from service.conversation.summaries import (
    MOST_PARTS,
    LabelSpaceSummary,
    Part,
    Summary,
    ValenceSummary,
)
from service.dialogue_format import Name, Role, Speaker
from service.sessions.overviews import Order


class ProbablePeak(TypedDict):
    """The utterance where a label is most probable; the first of several."""

    index: int
    probability: Annotated[float, Field(description="1 if a person gave it the label")]


class ValencePeak(TypedDict):
    """The utterance with the lowest or highest valence; the first of several."""

    index: int
    valence: float


class LabelShareOut(TypedDict):
    """How often a label occurs."""

    label: str
    count: int
    share: Annotated[float, Field(description="of the utterances in the label space")]
    low: Annotated[float, Field(description="The lower end of the share's 95% Wilson interval.")]
    high: Annotated[float, Field(description="The upper end of the share's 95% Wilson interval.")]
    peak: ProbablePeak


class RunOut(TypedDict):
    """The longest run of utterances with one label; the first of several.

    A speaker's or role's run goes on across the utterances of others.
    """

    label: str
    length: int
    first: Annotated[int, Field(description="index of its first utterance")]
    last: Annotated[int, Field(description="index of its last utterance")]


class AgreementOut(TypedDict):
    """How people's labels agree with the predicted ones."""

    corrected: Annotated[int, Field(description="utterances that have a person's label")]
    compared: Annotated[
        int,
        Field(
            description="Those of them where the two can be compared: in one label space, or as "
            "labels of `unified`."
        ),
    ]
    agreed: Annotated[int, Field(description="those of them where the two are the same")]


class LabelSpaceSummaryOut(TypedDict):
    """The utterances that were answered in one label space."""

    label_space: str
    utterances: int
    labels: Annotated[
        list[LabelShareOut], Field(description="those that occur, the most frequent first")
    ]
    longest_run: RunOut
    agreement: AgreementOut


class ValenceSummaryOut(TypedDict):
    """The valences of the utterances that have one, over all label spaces.

    A valence is the probability of positive labels minus that of negative ones, -1 to 1, as
    `sentiment` and its like sum them.
    """

    utterances: Annotated[int, Field(description="how many have a valence")]
    mean: float
    shift: Annotated[
        float | None,
        Field(
            description="The mean over the last third of the dialogue minus that over the first, "
            "-2 to 2; null if one of them has no valence."
        ),
    ]
    lowest: ValencePeak
    highest: ValencePeak


class PartSummary(TypedDict):
    """Some utterances of a dialogue."""

    utterances: int
    valence: Annotated[
        ValenceSummaryOut | None, Field(description="null if no utterance has a valence")
    ]
    label_spaces: list[LabelSpaceSummaryOut]


class SpeakerSummary(PartSummary):
    """The utterances of a speaker."""

    speaker: str


class RoleSummary(PartSummary):
    """The utterances of the speakers with a role."""

    role: str


class DialogueSummary(PartSummary):
    """What a dialogue was like: as a whole, by speaker and by role.

    A person's label counts in place of the predicted one.
    """

    speakers: Annotated[
        list[SpeakerSummary],
        Field(description=f"The at most {MOST_PARTS} with the most utterances."),
    ]
    speaker_count: Annotated[int, Field(description="how many speakers there are")]
    roles: Annotated[
        list[RoleSummary], Field(description=f"The at most {MOST_PARTS} with the most utterances.")
    ]
    role_count: Annotated[int, Field(description="how many roles there are")]


_SHARES: dict[str, Any] = {
    "utterances": 1,
    "valence": {
        "utterances": 1,
        "mean": 0.84,
        "shift": None,
        "lowest": {"index": 0, "valence": 0.84},
        "highest": {"index": 0, "valence": 0.84},
    },
    "label_spaces": [
        {
            "label_space": "meld",
            "utterances": 1,
            "labels": [
                {
                    "label": "joy",
                    "count": 1,
                    "share": 1.0,
                    "low": 0.21,
                    "high": 1.0,
                    "peak": {"index": 0, "probability": 0.89},
                }
            ],
            "longest_run": {"label": "joy", "length": 1, "first": 0, "last": 0},
            "agreement": {"corrected": 0, "compared": 0, "agreed": 0},
        }
    ],
}


@with_config(
    json_schema_extra={
        "examples": [
            {
                "dialogue_id": "call-42",
                **_SHARES,
                "speakers": [{"speaker": "Ann", **_SHARES}],
                "speaker_count": 1,
                "roles": [],
                "role_count": 0,
            }
        ]
    }
)
class SummaryOut(DialogueSummary):
    """The summary of a stored dialogue."""

    dialogue_id: str


def summary_document(summary: Summary) -> DialogueSummary:
    """A summary as JSON."""
    return {
        **_part(summary.whole),
        "speakers": [{**_part(part), "speaker": name} for name, part in summary.speakers],
        "speaker_count": summary.speaker_count,
        "roles": [{**_part(part), "role": name} for name, part in summary.roles],
        "role_count": summary.role_count,
    }


def _part(part: Part) -> PartSummary:
    return {
        "utterances": part.utterances,
        "valence": None if part.valence is None else _valence(part.valence),
        "label_spaces": [_label_space(each) for each in part.label_spaces],
    }


def _valence(valence: ValenceSummary) -> ValenceSummaryOut:
    return {
        "utterances": valence.utterances,
        "mean": valence.mean,
        "shift": valence.shift,
        "lowest": {"index": valence.lowest.index, "valence": valence.lowest.value},
        "highest": {"index": valence.highest.index, "valence": valence.highest.value},
    }


def _label_space(space: LabelSpaceSummary) -> LabelSpaceSummaryOut:
    run, agreement = space.longest_run, space.agreement
    return {
        "label_space": space.label_space,
        "utterances": space.utterances,
        "labels": [
            {
                "label": share.label,
                "count": share.count,
                "share": share.share,
                "low": share.low,
                "high": share.high,
                "peak": {"index": share.peak.index, "probability": share.peak.value},
            }
            for share in space.labels
        ],
        "longest_run": {
            "label": run.label,
            "length": run.length,
            "first": run.first,
            "last": run.last,
        },
        "agreement": {
            "corrected": agreement.corrected,
            "compared": agreement.compared,
            "agreed": agreement.agreed,
        },
    }


# Otherwise a number would be one too: seconds since 1970, or milliseconds if there are many.
_DATE = re.compile(r"\s*\d{4}-")


def _written_out(value: object) -> object:
    if isinstance(value, str) and not _DATE.match(value):
        raise PydanticCustomError("moment", "must be a date and time, such as 2026-01-02T10:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("moment", "must be in the years 1 to 9999 of UTC") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]
Cursor = Annotated[str, Field(min_length=1, max_length=2000, pattern="^[A-Za-z0-9_-]+$")]
"""A place that a list has given, as `service.api.cursors` writes it."""


class DialogueListing(BaseModel):
    """Which dialogues to list, and in which order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sort: Order = Field(
        Order.UPDATED,
        description="`updated`: last written to first; `valence`: lowest mean valence first; "
        "`fall`: steepest fall of the valence first. The last two leave out dialogues without one.",
    )
    limit: int = Field(50, ge=1, le=200, description="The most per page.")
    after: Cursor | None = Field(None, description="As `next` of the previous page has it.")
    updated_since: Moment | None = Field(
        None, description="Only dialogues that were written to then or later."
    )
    label: Name | None = Field(
        None, description="Only dialogues in which the label occurs.", examples=["anger"]
    )
    label_space: Name | None = Field(
        None, description=f"That of the `label`; `{UNIFIED}` if omitted.", examples=["meld"]
    )
    min_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The least share of the utterances in the label space that has the `label`.",
    )
    min_probability: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The least probability that an utterance with the `label` must have.",
    )
    speaker: Speaker | None = Field(None, description="Only dialogues in which this one speaks.")
    role: Role | None = Field(None, description="Only dialogues in which a speaker has this role.")


class DialogueOverview(TypedDict):
    """A dialogue in a list."""

    id: str
    created_at: datetime
    updated_at: datetime
    utterances: int
    speakers: Annotated[int, Field(description="how many there are")]
    valence: Annotated[float | None, Field(description="the mean, -1 to 1; null if it has none")]
    shift: Annotated[
        float | None,
        Field(description="of the valence, from the first third to the last; null if it has none"),
    ]


class DialoguePage(TypedDict):
    """A page of a list of dialogues."""

    dialogues: Annotated[
        list[DialogueOverview],
        Field(description="Those that match; a page may have none and still lead to the next one."),
    ]
    next: Annotated[
        str | None, Field(description="the path of the next page; null on the last one")
    ]
