"""EmoryNLP as CSV (declare-lab/MELD, data/emorynlp/emorynlp_*_final.csv), or in its own JSON."""

from ast import literal_eval
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets import emorynlp_json
from training.datasets.tables import Row, read_csv
from training.datasets.text import mend

LABEL_SPACE = "emorynlp"
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID", "Season", "Episode")


def read(path: Path, label_space: LabelSpace) -> Iterator[Dialogue]:
    """Scenes in the order of the file; their ids are the file's stem, season, episode and scene.

    Utterances have the ids that the original release gives them, such as `s01_e02_c03_u004`. A
    `.json` file is read as that release, see `training.datasets.emorynlp_json`.

    Raises:
        DatasetError: a missing column, an unknown label, an empty utterance.
    """
    if path.suffix.lower() == ".json":
        yield from emorynlp_json.read(path, label_space)
        return
    rows = read_csv(path, _COLUMNS)
    for scene, group in groupby(rows, key=_scene):
        utterances = tuple(
            Utterance(
                speaker=_speaker(row),
                text=mend(row.text("Utterance")),
                label=row.label("Emotion", label_space),
                id=_identifier(row),
            )
            for row in group
        )
        yield Dialogue(f"{path.stem}/{'_'.join(map(str, scene))}", utterances)


def _scene(row: Row) -> tuple[int, int, int]:
    return row.integer("Season"), row.integer("Episode"), row.integer("Scene_ID")


def _identifier(row: Row) -> str:
    season, episode, scene = _scene(row)
    return f"s{season:02}_e{episode:02}_c{scene:02}_u{row.integer('Utterance_ID'):03}"


def _speaker(row: Row) -> str:
    """The names in a cell such as `['Joey Tribbiani', 'Chandler Bing']`, as one speaker."""
    try:
        names = literal_eval(row.text("Speaker"))
    except (SyntaxError, TypeError, ValueError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise row.error(f"Speaker is {row.values['Speaker']!r}, not a list of names")
    return " & ".join(names)
