"""MELD's official CSV files (declare-lab/MELD, data/MELD/*_sent_emo.csv)."""

from collections.abc import Iterator
from pathlib import Path

from service.conversation.dialogue import Utterance
from training.datasets.errors import DatasetError
from training.datasets.found import Found, FoundUtterance, by_dialogue
from training.datasets.tables import Row, read_csv
from training.datasets.text import mend

LABEL_SPACE = "meld"
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


def read(path: Path) -> Iterator[Found]:
    """Dialogues in the order in which they begin; their ids are the file's stem and Dialogue_ID.

    Rows belong together by Dialogue_ID and follow each other by Utterance_ID, wherever they stand.
    Utterances have the names of their clips in the corpus, such as `dia0_utt3`.

    Raises:
        DatasetError: no such file, or a missing column.
    """
    return by_dialogue(_rows(path))


def _rows(path: Path) -> Iterator[tuple[str, FoundUtterance] | DatasetError]:
    for row in read_csv(path, COLUMNS):
        try:
            yield row if isinstance(row, DatasetError) else _found(row)
        except DatasetError as error:
            yield error


def _found(row: Row) -> tuple[str, FoundUtterance]:
    dialogue, number = row.number("Dialogue_ID"), row.number("Utterance_ID")
    utterance = Utterance(
        speaker=row.text("Speaker"),
        text=mend(row.text("Utterance")),
        label=row.values["Emotion"].strip(),
        id=f"dia{dialogue}_utt{number}",
    )
    found = FoundUtterance(utterance, row.place, number, "Emotion")
    return f"{row.place.path.stem}/{dialogue}", found
