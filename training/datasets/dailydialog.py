"""DailyDialog's official release (Li et al. 2017): a folder for each split.

`dialogues_train.txt` has a dialogue a line, an `__eou__` after each utterance, and
`dialogues_emotion_train.txt` a number for each; what the speakers intend is not read. The texts are
tokenised in part (`That ’ s late , I ’ m afraid .`), which nobody who asks the service writes.
"""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from service.conversation.dialogue import Utterance
from training.datasets.errors import DatasetError
from training.datasets.located import DialogueOrFault, LocatedDialogue, LocatedUtterance, Place
from training.datasets.tables import read_text
from training.datasets.text import close_up, mend

LABEL_SPACE = "dailydialog"

# In the order of the corpus's numbers.
_EMOTIONS = ("no emotion", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
_BY_NUMBER = {str(number): emotion for number, emotion in enumerate(_EMOTIONS)}
_TEXTS, _LABELS = "dialogues_", "dialogues_emotion_"
_NAMES = tuple(f"{_TEXTS}{split}.txt" for split in ("train", "validation", "test"))
_END = "__eou__"


def read(path: Path) -> Iterator[DialogueOrFault]:
    """Dialogues in the order of the file; their ids are the file's stem and the line's number.

    An utterance's id is the line's number and its own in the line, from 1: `12/3`. Speakers are not
    named: two take turns, "0" begins. Spaces before punctuation and around apostrophes are closed
    up. An utterance without words is left out. A line of emotions that are more or fewer than its
    utterances, or outside 0 to 6, is no dialogue's.

    Args:
        path: a split's folder, or the file of its dialogues; its emotions lie beside it. A recipe
            names the folder, for a fingerprint of both.

    Raises:
        DatasetError: no such file.
    """
    texts = _texts(path)
    emotions = texts.with_name(texts.name.replace(_TEXTS, _LABELS, 1))
    lines = zip_longest(_lines(texts), _lines(emotions), fillvalue="")
    for number, (line, numbers) in enumerate(lines, start=1):
        place, of_labels = Place(texts, number), Place(emotions, number)
        said = [text.strip() for text in line.removesuffix(_END).split(_END)] if line else []
        labels = numbers.split()
        unknown = [label for label in labels if label not in _BY_NUMBER]
        if len(labels) != len(said):
            yield of_labels.error(f"{len(labels)} emotions, but {len(said)} utterances")
        elif unknown:
            yield of_labels.error(f"emotion is {unknown[0]!r}, not 0 to 6")
        elif any(said):
            utterances = tuple(
                LocatedUtterance(
                    Utterance(
                        str((turn - 1) % 2),
                        close_up(text),
                        _BY_NUMBER[label],
                        id=f"{number}/{turn}",
                    ),
                    place,
                    turn,
                )
                for turn, (text, label) in enumerate(zip(said, labels, strict=True), start=1)
                if text
            )
            yield LocatedDialogue(f"{texts.stem}/{number}", place, utterances)


def _texts(path: Path) -> Path:
    if not path.is_dir():
        if not path.name.startswith(_TEXTS):
            raise DatasetError(f"{path}: neither a folder nor one of {', '.join(_NAMES)}", path)
        return path
    paths = [path / name for name in _NAMES if (path / name).is_file()]
    if len(paths) != 1:
        raise DatasetError(
            f"{path}: contains {len(paths)} of {', '.join(_NAMES)} instead of one", path
        )
    return paths[0]


def _lines(path: Path) -> list[str]:
    # Mended first, and not by splitlines: to Unicode some of what is mended is space.
    return [line.strip() for line in mend(read_text(path)).rstrip().split("\n")]
