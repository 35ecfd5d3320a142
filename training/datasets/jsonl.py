"""Dialogues in the one format of files, found with their lines."""

from collections.abc import Iterator
from pathlib import Path

from service.dialogue_files import DialogueFormatError, dialogue_from_json, name_at
from service.json_lines import read_each
from training.datasets.errors import DatasetError
from training.datasets.located import DialogueOrFault, LocatedDialogue, LocatedUtterance, Place


def read(path: Path) -> Iterator[DialogueOrFault]:
    """Dialogues in the order of the file, their utterances in the order of their lists.

    Raises:
        DatasetError: the file cannot be read, or not to its end.
    """
    for where, value in read_each(path, DatasetError):
        line, _, item = where.partition(", ")  # an item, where the file is one array
        if isinstance(value, DatasetError):
            yield DatasetError(str(value), path, int(line))
            continue
        place = Place(path, int(line), item)
        try:
            dialogue = dialogue_from_json(value, name_at(path, where))
        except DialogueFormatError as error:
            yield place.error(str(error))
            continue
        within = f"{item}, " if item else ""
        yield LocatedDialogue(
            dialogue.id,
            place,
            tuple(
                LocatedUtterance(
                    utterance,
                    Place(
                        path,
                        place.line,
                        f"{within}dialogue {dialogue.id!r}, utterances[{index}]",
                    ),
                )
                for index, utterance in enumerate(dialogue.utterances)
            ),
        )
