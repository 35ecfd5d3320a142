"""MELD's official CSV files (declare-lab/MELD, data/MELD/*_sent_emo.csv)."""

from collections.abc import Iterator
from pathlib import Path

from service.conversation.dialogue import Utterance
from training.datasets.located import DialogueOrFault, LocatedUtterance
from training.datasets.tables import Row, dialogues_of
from training.datasets.text import mend

LABEL_SPACE = "meld"
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


def read(path: Path) -> Iterator[DialogueOrFault]:
    """Dialogues in the order in which they begin; their ids are the file's stem and Dialogue_ID.

    Rows belong together by Dialogue_ID and follow each other by Utterance_ID, wherever they stand.
    Utterances have the names of their clips in the corpus, such as `dia0_utt3`.

    Raises:
        DatasetError: no such file, or a missing column.
    """
    return dialogues_of(path, COLUMNS, _located)


def _located(row: Row) -> tuple[str, LocatedUtterance]:
    dialogue, number = row.number("Dialogue_ID"), row.number("Utterance_ID")
    utterance = Utterance(
        speaker=row.text("Speaker"),
        text=mend(row.text("Utterance")),
        label=row.values["Emotion"].strip(),
        id=f"dia{dialogue}_utt{number}",
    )
    located = LocatedUtterance(utterance, row.place, number, "Emotion")
    return f"{row.place.path.stem}/{dialogue}", located
