"""MELD's official CSV files (declare-lab/MELD, data/MELD/*_sent_emo.csv)."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.tables import read_csv
from training.datasets.text import mend

LABEL_SPACE = "meld"
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


def read(path: Path, label_space: LabelSpace) -> Iterator[Dialogue]:
    """Dialogues in the order of the file; their ids are the file's stem and Dialogue_ID.

    Utterances have the names of their clips in the corpus, such as `dia0_utt3`.

    Raises:
        DatasetError: a missing column, an unknown label, an empty utterance.
    """
    rows = read_csv(path, _COLUMNS)
    for number, group in groupby(rows, key=lambda row: row.integer("Dialogue_ID")):
        utterances = tuple(
            Utterance(
                speaker=row.text("Speaker"),
                text=mend(row.text("Utterance")),
                label=row.label("Emotion", label_space),
                id=f"dia{number}_utt{row.integer('Utterance_ID')}",
            )
            for row in group
        )
        yield Dialogue(f"{path.stem}/{number}", utterances)
