"""Checks of requests against the limits in the settings.

Lengths are in characters (code points).
"""

from collections.abc import Sequence
from typing import Literal

from service.api.problems.answers import invalid
from service.api.schemas.batch import BatchIn
from service.api.schemas.demonstrations import DemonstrationIn
from service.api.schemas.dialogues import ForecastAsked, TimelineAsked
from service.api.schemas.label_spaces import MOST_EXAMPLES_IN_ALL, LabelSpaceIn
from service.api.schemas.summaries import DialogueListing
from service.conversation.dialogue import Dialogue
from service.dialogue_format import DialogueIn, Said
from service.settings import Limits

# The most that a job or a file may have; its other lines are scored all the same.
BROKEN_LINES = 1000

_SHOWN = 100  # characters of a dialogue's id


def check_utterance(utterance: Said, limits: Limits, *where: str | int) -> None:
    """Refuse an utterance that is too long; `where` is its path in the body.

    Raises:
        RequestValidationError: a field is too long; the error says which.
    """
    _check_length(utterance.speaker, limits.speaker_characters, *where, "speaker")
    _check_length(utterance.text, limits.text_characters, *where, "text")
    _check_length(utterance.description or "", limits.text_characters, *where, "description")


def check_forecast(query: ForecastAsked, limits: Limits) -> None:
    """Refuse a speaker whose name is too long.

    Raises:
        RequestValidationError: the parameter is too long.
    """
    _check_length(query.speaker, limits.speaker_characters, "speaker", source="query")


def check_listing(query: DialogueListing, limits: Limits) -> None:
    """Refuse a speaker whose name is too long, and conditions on a label that is not named.

    Raises:
        RequestValidationError: a parameter is too long, or of no use.
    """
    _check_length(query.speaker or "", limits.speaker_characters, "speaker", source="query")
    for name in ("label_space", "min_share", "min_probability"):
        if query.label is None and getattr(query, name) is not None:
            raise invalid(name, detail="is of use only with `label`", source="query")


def page_limit(query: TimelineAsked, limits: Limits) -> int:
    """How many utterances a page of a timeline has at most.

    Raises:
        RequestValidationError: the query asks for more than a page may have.
    """
    most = limits.timeline_utterances
    if query.limit is None:
        return most
    if query.limit > most:
        raise invalid("limit", detail=f"at most {most} are allowed", source="query")
    return query.limit


def check_label_space(label_space: LabelSpaceIn, limits: Limits, most: int | None = None) -> int:
    """Refuse mixed kinds of labels, duplicate names, and too many or too long examples.

    Args:
        most: how many utterances the caller's quota ever allows at once.

    Returns:
        How many examples there are.

    Raises:
        RequestValidationError: something is wrong; the error says what and where.
    """
    names: set[str] = set()
    count = 0
    required: tuple[str, ...]
    stray: tuple[str, ...]
    for n, label in enumerate(label_space.labels):
        where: tuple[str | int, ...] = ("labels", n)
        if label.name in names:
            raise invalid(*where, "name", detail="another label has this name")
        names.add(label.name)
        if label_space.derived_from is not None:
            required, stray = ("of",), ("sentence", "examples")
            why = "is required with `derived_from`", "is not for a derived label space"
        else:
            required, stray = ("sentence", "examples"), ("of",)
            why = (
                "is required, unless there is `derived_from`",
                "is only for label spaces with `derived_from`",
            )
        for member in required:
            if getattr(label, member) is None:
                raise invalid(*where, member, detail=why[0])
        for member in stray:
            if getattr(label, member) is not None:
                raise invalid(*where, member, detail=why[1])
        for m, text in enumerate(label.examples or ()):
            _check_length(text, limits.text_characters, *where, "examples", m)
            count += 1
    allowed = min(MOST_EXAMPLES_IN_ALL, MOST_EXAMPLES_IN_ALL if most is None else most)
    if count > allowed:
        raise invalid("labels", detail=f"at most {allowed} examples are allowed, got {count}")
    return count


def check_batch(batch: BatchIn, limits: Limits, most: int | None = None) -> int:
    """Refuse a batch that holds too much, or two dialogues with one id.

    Args:
        most: how many utterances the caller's quota allows, if it says.

    Returns:
        How many utterances it holds.

    Raises:
        RequestValidationError: a limit is exceeded; the error says where first.
    """
    _check_count(len(batch.dialogues), limits.batch_dialogues, "dialogues", "dialogues")
    utterances = sum(len(dialogue.utterances) for dialogue in batch.dialogues)
    _check_count(utterances, _allowed(limits, most), "utterances", "dialogues")
    _check_ids([dialogue.id for dialogue in batch.dialogues], "dialogues")
    for n, dialogue in enumerate(batch.dialogues):
        _check_utterances(dialogue, limits, "dialogues", n)
    return utterances


def check_dialogue(dialogue: DialogueIn, limits: Limits, most: int | None = None) -> None:
    """Refuse a dialogue on a line of its own that holds too much.

    Args:
        most: how many utterances the caller's quota allows, if it says.

    Raises:
        RequestValidationError: a limit is exceeded; the error says where first in the line.
    """
    count = len(dialogue.utterances)
    _check_count(count, _allowed(limits, most), "utterances", "utterances")
    _check_utterances(dialogue, limits)


def check_transcript(
    dialogues: Sequence[Dialogue], limits: Limits, most: int | None = None
) -> None:
    """Refuse a file that has more or longer utterances than a batch may.

    Args:
        most: how many utterances the caller's quota allows, if it says.

    Raises:
        RequestValidationError: a limit is exceeded; the error says where first.
    """
    utterances, allowed = sum(len(each.utterances) for each in dialogues), _allowed(limits, most)
    if utterances > allowed:
        raise invalid(detail=f"has {utterances} utterances, at most {allowed} are allowed")
    for dialogue in dialogues:
        for index, utterance in enumerate(dialogue.utterances):
            lengths = (
                ("speaker", utterance.speaker, limits.speaker_characters),
                ("text", utterance.text, limits.text_characters),
                ("description", utterance.description or "", limits.text_characters),
            )
            for name, value, longest in lengths:
                if len(value) > longest:
                    raise invalid(
                        detail=f"dialogue {dialogue.id[:_SHOWN]!r}, utterance {index}: {name} has "
                        f"{len(value)} characters, at most {longest} are allowed"
                    )


def check_job(dialogues: int, utterances: int, limits: Limits, most: int | None = None) -> None:
    """Refuse a job that holds too much.

    Args:
        utterances: their number; an empty dialogue and a broken line count as one.
        most: how many utterances the caller's quota allows at once, if it says.

    Raises:
        RequestValidationError: there are too many.
    """
    _check_count(dialogues, limits.job_dialogues, "dialogues", "dialogues")
    if most is not None:
        _check_count(utterances, most, "utterances", "dialogues")


def check_broken(lines: Sequence[int]) -> None:
    """Refuse a job with so many broken lines that it cannot be meant as dialogues.

    Args:
        lines: the numbers of the broken lines.

    Raises:
        RequestValidationError: there are too many; the error names the first.
    """
    if len(lines) > BROKEN_LINES:
        detail = f"more than {BROKEN_LINES} lines are broken, the first of them line {lines[0]}"
        raise invalid(detail=f"{detail}; nothing is stored")


def _check_utterances(dialogue: DialogueIn, limits: Limits, *where: str | int) -> None:
    for n, utterance in enumerate(dialogue.utterances):
        check_utterance(utterance, limits, *where, "utterances", n)


def check_demonstrations(
    demonstrations: Sequence[DemonstrationIn], limits: Limits, most: int | None = None
) -> None:
    """Refuse demonstrations that are too many or too long, or two with one id.

    The limit on their number is that of the utterances of a batch.

    Args:
        most: how many the caller's quota allows, if it says.

    Raises:
        RequestValidationError: a limit is exceeded; the error says where first.
    """
    where = "demonstrations"
    _check_count(len(demonstrations), _allowed(limits, most), where, where)
    _check_ids([demonstration.id for demonstration in demonstrations], where)
    for n, demonstration in enumerate(demonstrations):
        _check_length(demonstration.text, limits.text_characters, where, n, "text")


def _allowed(limits: Limits, most: int | None) -> int:
    return limits.batch_utterances if most is None else min(most, limits.batch_utterances)


def _check_length(
    value: str, most: int, *where: str | int, source: Literal["body", "query"] = "body"
) -> None:
    if len(value) > most:
        detail = f"has {len(value)} characters, at most {most} are allowed"
        raise invalid(*where, detail=detail, source=source)


def _check_count(count: int, most: int, noun: str, where: str) -> None:
    if count > most:
        raise invalid(where, detail=f"has {count} {noun}, at most {most} are allowed")


def _check_ids(ids: Sequence[str | None], where: str) -> None:
    first: dict[str, int] = {}
    for n, identifier in enumerate(ids):
        if identifier is not None and first.setdefault(identifier, n) != n:
            detail = f"is also the id of number {first[identifier]}; each must have its own"
            raise invalid(where, n, "id", detail=detail)
