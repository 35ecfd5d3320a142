"""The rules that every corpus must satisfy, whichever reader yields it; checked only here.

An id names one thing; a label is one that the label space has; an utterance says something, in
characters that a file can hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from service.conversation.dialogue import Dialogue, fault_of_name, fault_of_text
from service.conversation.labels import LabelSpace, UnknownLabel
from training.datasets.errors import DatasetError
from training.datasets.located import DialogueOrFault, LocatedDialogue, LocatedUtterance, Place

_REMEDY = "; keep one of them, or give them different ids"


@dataclass(frozen=True, slots=True)
class Reading:
    """The contents of a corpus.

    Attributes:
        located: the dialogues, their labels as the label space spells them; without the utterances
            that something is wrong with.
        faults: in the order of the files' lines.
    """

    located: tuple[LocatedDialogue, ...]
    faults: tuple[DatasetError, ...]

    @property
    def dialogues(self) -> tuple[Dialogue, ...]:
        """The dialogues.

        Raises:
            DatasetError: something is wrong with the corpus; the message names the first fault, and
                how many there are.
        """
        if self.faults:
            first, *others = self.faults
            if others:
                more = f" (and {len(others)} more: `instructerc-train data check` lists them)"
                raise DatasetError(f"{first}{more}", first.path, first.line)
            raise first
        return tuple(
            Dialogue(one.id, tuple(each.utterance for each in one.utterances))
            for one in self.located
        )


def look_at(
    items: Iterable[DialogueOrFault], label_space: LabelSpace | None, *, ids_of_file: bool = True
) -> Reading:
    """Look at everything that a reader gives.

    Args:
        items: what a reader gives; what it raises at the end is a fault like the others.
        label_space: that the labels are of; None: any label is one.
        ids_of_file: whether utterances have ids of their own in the whole corpus, not in their
            dialogue alone.
    """
    faults: list[DatasetError] = []
    dialogues: list[LocatedDialogue] = []
    known_dialogues: dict[str, Place] = {}
    known: dict[tuple[str, str], Place] = {}
    try:
        for each in items:
            if isinstance(each, DatasetError):
                faults.append(each)
                continue
            first = known_dialogues.setdefault(each.id, each.place)
            if first is not each.place:
                also = first.seen_from(each.place)
                faults.append(each.place.error(f"id {each.id!r} is also {also}{_REMEDY}"))
                continue
            kept = []
            for one in each.utterances:
                try:
                    _check_id(one, "" if ids_of_file else each.id, known)
                    kept.append(_checked(one, label_space))
                except DatasetError as error:
                    faults.append(error)
            dialogues.append(replace(each, utterances=tuple(kept)))
    except DatasetError as error:
        faults.append(error)
    return Reading(tuple(dialogues), _in_order(faults))


def _check_id(one: LocatedUtterance, where: str, known: dict[tuple[str, str], Place]) -> None:
    identifier = one.utterance.id
    if identifier is None:
        return
    first = known.setdefault((where, identifier), one.place)
    if first is not one.place:
        also = first.seen_from(one.place)
        raise one.place.error(f"utterance {identifier!r} is also {also}{_REMEDY}")


def _checked(one: LocatedUtterance, label_space: LabelSpace | None) -> LocatedUtterance:
    """The utterance, its label by its name in the label space."""
    said = one.utterance
    for name, value, fault_of in (
        ("text", said.text, fault_of_text),
        ("speaker", said.speaker, fault_of_name),
        ("description", said.description, fault_of_text),
        ("id", said.id, fault_of_name),
    ):
        if value is not None and (fault := fault_of(value)) is not None:
            raise one.place.error(fault, name)
    if said.label is None or label_space is None:
        return one
    try:
        name = label_space.label(said.label).name
    except UnknownLabel as error:
        raise one.place.error(str(error), one.label_field) from None
    return one if name == said.label else replace(one, utterance=replace(said, label=name))


def _in_order(faults: Iterable[DatasetError]) -> tuple[DatasetError, ...]:
    """By file, as they come, and by line."""
    faults = tuple(faults)
    order: dict[Path | None, int] = {}
    for fault in faults:
        order.setdefault(fault.path, len(order))
    return tuple(sorted(faults, key=lambda fault: (order[fault.path], fault.line)))
