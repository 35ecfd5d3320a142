"""The content of a corpus as a reader yields it, before the corpus is checked as a whole.

A reader yields dialogues, and a `DatasetError` for each part that it cannot read, and continues. It
raises an error after which it cannot continue, such as a missing file.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from service.conversation.dialogue import Utterance
from training.datasets.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a corpus.

    Attributes:
        line: from 1; 0 where the format has none.
        part: of the line or of the file, such as "dialogue 'd1', utterances[2]".
    """

    path: Path
    line: int = 0
    part: str = ""

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return f"{where}: {self.part}" if self.part else where

    def seen_from(self, other: "Place") -> str:
        """The place in words, after "is also": as short as another place allows."""
        file = "" if self.path == other.path else f" of {self.path}"
        return f"on line {self.line}{file}" if self.line else f"{self.part}{file}"

    def error(self, problem: str, field: str = "") -> DatasetError:
        """What is wrong here.

        Args:
            field: of the part, such as "label"; a list's or a row's own name for it.
        """
        joint = "." if self.part.endswith("]") else ": "
        where = f"{self}{joint}{field}" if field else f"{self}"
        return DatasetError(f"{where}: {problem}", self.path, self.line)


@dataclass(frozen=True, slots=True)
class LocatedUtterance:
    """An utterance and where it stands.

    Attributes:
        utterance: its label as the reader finds it, in any case.
        number: its place in the dialogue by the corpus's own count, where it has one.
        label_field: what the corpus calls the label.
    """

    utterance: Utterance
    place: Place
    number: int | None = None
    label_field: str = "label"


@dataclass(frozen=True, slots=True)
class LocatedDialogue:
    """A dialogue and where it begins.

    Attributes:
        scattered: whether its rows did not stand together, or not in the order of their numbers.
    """

    id: str
    place: Place
    utterances: tuple[LocatedUtterance, ...]
    scattered: bool = field(default=False, kw_only=True)


DialogueOrFault = LocatedDialogue | DatasetError


def in_own_order(
    dialogue: str, place: Place, utterances: Iterable[LocatedUtterance], *, apart: bool = False
) -> LocatedDialogue:
    """A dialogue by the numbers of its utterances, where all have one, or else as they stand.

    Args:
        apart: whether others stood between them.
    """
    ordered = tuple(utterances)
    numbers = [one.number for one in ordered if one.number is not None]
    falls = len(numbers) == len(ordered) and any(after < one for one, after in pairwise(numbers))
    if falls:
        ordered = tuple(sorted(ordered, key=lambda one: one.number or 0))
    return LocatedDialogue(dialogue, place, ordered, scattered=apart or falls)


def by_dialogue(
    rows: Iterable[tuple[str, LocatedUtterance] | DatasetError],
) -> Iterator[DialogueOrFault]:
    """The dialogues of rows that name theirs, in the order in which they begin.

    The rows of one need not stand together.
    """
    held: dict[str, list[tuple[int, LocatedUtterance]]] = {}
    for index, row in enumerate(rows):
        if isinstance(row, DatasetError):
            yield row
        else:
            held.setdefault(row[0], []).append((index, row[1]))
    for dialogue, utterances in held.items():
        own = [utterance for _, utterance in utterances]
        apart = utterances[-1][0] - utterances[0][0] >= len(utterances)
        yield in_own_order(dialogue, own[0].place, own, apart=apart)
