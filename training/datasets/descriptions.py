"""Descriptions of scenes, joined to the utterances that are spoken in them (DialogueLLM).

Descriptions are made elsewhere, by a model that sees the clips (arXiv 2310.11374). A
file has an object a line: `{"utterance": "dia0_utt3", "description": "..."}` with the utterance's
own id, which in MELD is the clip's name, or `{"dialogue": "d1", "index": 3, "description": "..."}`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.conversation.dialogue import Dialogue, fault_of_text
from service.json_lines import read_json_lines
from training.datasets.errors import DatasetError

Place = tuple[str, int]
"""A dialogue's id, and an utterance's index in it, from 0."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a file of descriptions.

    Attributes:
        utterance: its place, or its id.
    """

    line: str
    utterance: Place | str
    description: str


def with_descriptions(dialogues: Sequence[Dialogue], path: Path) -> tuple[Dialogue, ...]:
    """The dialogues with the descriptions of a file; those that it does not have stay as they are.

    Raises:
        DatasetError: no such file, or a line that is no description, names no utterance or several,
            or one that a line above describes; the message names the line.
    """
    by_id: dict[str, list[Place]] = defaultdict(list)
    places = set()
    for dialogue in dialogues:
        for index, utterance in enumerate(dialogue.utterances):
            places.add((dialogue.id, index))
            if utterance.id is not None:
                by_id[utterance.id].append((dialogue.id, index))
    row_of: dict[Place, _Row] = {}
    for row in _rows(path):
        named = by_id.get(row.utterance, []) if isinstance(row.utterance, str) else [row.utterance]
        known = [place for place in named if place in places]
        if len(known) != 1:
            how_many = "more than one" if known else "no"
            raise DatasetError(
                f"{path}:{row.line}: the corpus has {how_many} utterance {row.utterance!r}"
            )
        if row_of.setdefault(known[0], row) is not row:
            raise DatasetError(
                f"{path}:{row.line}: {row.utterance!r} is also described on line "
                f"{row_of[known[0]].line}"
            )
    return tuple(
        replace(
            dialogue,
            utterances=tuple(
                replace(u, description=row_of[dialogue.id, index].description)
                if (dialogue.id, index) in row_of
                else u
                for index, u in enumerate(dialogue.utterances)
            ),
        )
        for dialogue in dialogues
    )


def _rows(path: Path) -> Iterator[_Row]:
    for number, value in read_json_lines(path, DatasetError):
        match value:
            case {"dialogue": str(dialogue), "index": int(index), "description": str(text)}:
                row = _Row(number, (dialogue, index), text)
            case {"utterance": str(identifier), "description": str(text)}:
                row = _Row(number, identifier, text)
            case _:
                raise DatasetError(
                    f"{path}:{number}: needs description, and utterance or dialogue and index"
                )
        if (fault := fault_of_text(text)) is not None:
            raise DatasetError(f"{path}:{number}: description {fault}")
        yield row
