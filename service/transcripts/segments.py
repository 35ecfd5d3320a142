"""Segments of speech as transcripts have them, and the utterances that they become."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from service.conversation.dialogue import (
    LATEST,
    ROLE_CHARACTERS,
    Dialogue,
    Utterance,
    fault_of_name,
    fault_of_text,
)

UNKNOWN_SPEAKER = "unknown"
"""The speaker of a segment without one."""
MOST_SEGMENTS = 100_000
"""The most segments of one dialogue: more than a day of speech."""

# A joined utterance is not extended beyond this, the most that the API takes by default.
_JOINED_CHARACTERS = 2_000


class TranscriptError(ValueError):
    """A transcript, or a part of one, is malformed; the message names the part and the remedy.

    Attributes:
        line: the number of the line where the part begins; None in a document.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Segment:
    """Something that one speaker says without a pause.

    Attributes:
        speaker: None if the transcript does not tell.
        text: not blank.
        start, end: seconds from the beginning of the dialogue, if known.
        role: the speaker's part in the dialogue, such as "agent", if known.
        id: the transcript's own id, if the utterance should keep it.
    """

    speaker: str | None
    text: str
    start: float | None = None
    end: float | None = None
    role: str | None = None
    id: str | None = None


class UnknownSpeaker(StrEnum):
    """What becomes of a segment without a speaker."""

    OWN = "own"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Joining:
    """Which segments become one utterance.

    Attributes:
        unknown_speaker: whether a segment without a speaker is an utterance of the speaker
            "unknown", or part of the utterance before it.
        within_s: join segments of one speaker if the pause between them is at most this long, in
            seconds; None: join none.
    """

    unknown_speaker: UnknownSpeaker = UnknownSpeaker.OWN
    within_s: float | None = None


def checked(segment: Segment, where: str = "", line: int | None = None) -> Segment:
    """The segment without surrounding space, if everything in it is valid in an utterance.

    Args:
        where: the segment's path in its document, with a "." at the end.

    Raises:
        TranscriptError: a field is invalid; the message names it.
    """
    faults = (
        ("text", fault_of_text(segment.text)),
        ("speaker", None if segment.speaker is None else fault_of_name(segment.speaker)),
        ("role", None if segment.role is None else _fault_of_role(segment.role)),
        ("id", None if segment.id is None else fault_of_name(segment.id)),
    )
    for field, fault in faults:
        if fault is not None:
            raise TranscriptError(f"{where}{field} {fault}", line)
    if (fault := _fault_of_times(segment.start, segment.end)) is not None:
        raise TranscriptError(f"{where}{fault}", line)
    return replace(segment, text=segment.text.strip())


def dialogue_of(segments: Iterable[Segment], name: str, joining: Joining) -> Dialogue:
    """The dialogue of segments in the order in which they are spoken.

    Args:
        name: its id.

    Raises:
        TranscriptError: the name is invalid, or two segments have one id.
    """
    if (fault := fault_of_name(name)) is not None:
        raise TranscriptError(f"the dialogue is named after the file, and its name {fault}")
    utterances = tuple(_joined(segments, joining))
    ids: set[str] = set()
    for utterance in utterances:
        if utterance.id in ids:
            raise TranscriptError(
                f"two utterances of dialogue {name!r} have the id {utterance.id!r}; if it is the "
                "dialogue's, name its column with --dialogue"
            )
        if utterance.id is not None:
            ids.add(utterance.id)
    return Dialogue(name, utterances)


def _joined(segments: Iterable[Segment], joining: Joining) -> Iterator[Utterance]:
    last: Segment | None = None
    for segment in segments:
        if last is not None and _belongs_to(last, segment, joining):
            last = replace(
                last, text=f"{last.text} {segment.text}", end=_later(last.end, segment.end)
            )
            continue
        if last is not None:
            yield _utterance(last)
        last = segment
    if last is not None:
        yield _utterance(last)


def seconds_between(first: str, then: str) -> float:
    """The seconds from one ISO 8601 date to another, to the millisecond.

    Raises:
        ValueError: one of them is not such a date, or only one has a time zone.
    """
    try:
        pause = datetime.fromisoformat(then) - datetime.fromisoformat(first)
    except TypeError:
        raise ValueError("only one of two dates has a time zone") from None
    return round(pause.total_seconds(), 3)


def _fault_of_role(role: str) -> str | None:
    if len(role) > ROLE_CHARACTERS:
        return f"must have at most {ROLE_CHARACTERS} characters"
    return fault_of_name(role)


def _fault_of_times(start: float | None, end: float | None) -> str | None:
    for name, value in (("start", start), ("end", end)):
        if value is not None and not 0 <= value <= LATEST:
            return f"{name} must be a number of seconds from 0 to {LATEST:,}"
    if start is not None and end is not None and end < start:
        return "end must not be before start"
    return None


def _belongs_to(last: Segment, segment: Segment, joining: Joining) -> bool:
    if len(last.text) + 1 + len(segment.text) > _JOINED_CHARACTERS:
        return False
    if segment.speaker is None and joining.unknown_speaker is UnknownSpeaker.PREVIOUS:
        return True
    if joining.within_s is None or last.end is None or segment.start is None:
        return False
    same = (last.speaker, last.role) == (segment.speaker, segment.role)
    return same and segment.start - last.end <= joining.within_s


def _later(one: float | None, other: float | None) -> float | None:
    return max((time for time in (one, other) if time is not None), default=None)


def _utterance(segment: Segment) -> Utterance:
    return Utterance(
        UNKNOWN_SPEAKER if segment.speaker is None else segment.speaker,
        segment.text,
        id=segment.id,
        start=segment.start,
        end=segment.end,
        role=segment.role,
    )
