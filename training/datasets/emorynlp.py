"""EmoryNLP as CSV (declare-lab/MELD, data/emorynlp/emorynlp_*_final.csv), or in its own JSON."""

from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path

from service.conversation.dialogue import Utterance
from training.datasets import emorynlp_json
from training.datasets.located import DialogueOrFault, LocatedUtterance
from training.datasets.tables import Row, dialogues_of
from training.datasets.text import mend

LABEL_SPACE = "emorynlp"
COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID", "Season", "Episode")


def read(path: Path) -> Iterator[DialogueOrFault]:
    """Scenes in the order in which they begin; ids: the file's stem, season, episode and scene.

    Rows belong together by these and follow each other by Utterance_ID, wherever they stand.
    Utterances have the ids that the original release gives them, such as `s01_e02_c03_u004`. A
    `.json` file is read as that release, see `training.datasets.emorynlp_json`.

    Raises:
        DatasetError: no such file, or a missing column.
    """
    if path.suffix.lower() == ".json":
        return emorynlp_json.read(path)
    return dialogues_of(path, COLUMNS, _located)


def _located(row: Row) -> tuple[str, LocatedUtterance]:
    season, episode, scene = (row.number(name) for name in ("Season", "Episode", "Scene_ID"))
    number = row.number("Utterance_ID")
    utterance = Utterance(
        speaker=_speaker(row),
        text=mend(row.text("Utterance")),
        label=row.values["Emotion"].strip(),
        id=f"s{season:02}_e{episode:02}_c{scene:02}_u{number:03}",
    )
    located = LocatedUtterance(utterance, row.place, number, "Emotion")
    return f"{row.place.path.stem}/{season}_{episode}_{scene}", located


def _speaker(row: Row) -> str:
    """The names in a cell such as `['Joey Tribbiani', 'Chandler Bing']`, as one speaker."""
    try:
        names = literal_eval(row.text("Speaker"))
    except (SyntaxError, TypeError, ValueError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise row.error(f"Speaker is {row.values['Speaker']!r}, not a list of names")
    return " & ".join(names)
