"""GoEmotions (Demszky et al. 2020): single comments, its 27 emotions grouped as Ekman's six.

A tab-separated file without a header: text, comma-separated label numbers, comment id. The
grouping is the authors' `ekman_mapping.json`, in MELD's names; approval, desire and the like count
as joy there. Comments with several labels are left out: they have no single answer.
"""

from collections.abc import Iterator
from pathlib import Path

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.tables import read_text
from training.datasets.text import mend

LABEL_SPACE = "meld"

# In the order of the corpus's label numbers.
_EMOTIONS = (
    *("admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion"),
    *("curiosity", "desire", "disappointment", "disapproval", "disgust", "embarrassment"),
    *("excitement", "fear", "gratitude", "grief", "joy", "love", "nervousness", "optimism"),
    *("pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral"),
)
_BY_NUMBER = {str(number): emotion for number, emotion in enumerate(_EMOTIONS)}
_EKMAN = {
    "anger": "anger annoyance disapproval",
    "disgust": "disgust",
    "fear": "fear nervousness",
    "joy": "joy amusement approval excitement gratitude love optimism relief pride admiration "
    "desire caring",
    "sadness": "sadness disappointment embarrassment grief remorse",
    "surprise": "surprise realization confusion curiosity",
    "neutral": "neutral",
}
_LABEL = {emotion: label for label, group in _EKMAN.items() for emotion in group.split()}


def read(path: Path, label_space: LabelSpace) -> Iterator[Dialogue]:
    """Each comment with one label, as a dialogue of one utterance, both under the comment's id.

    Raises:
        DatasetError: a line without three fields, or with a label number outside 0 to 27.
    """
    # Not splitlines: a comment may hold what Unicode calls a line break.
    lines = read_text(path).removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        fields = line.removesuffix("\r").split("\t")
        if len(fields) != 3:
            raise DatasetError(f"{path}:{number}: {len(fields)} fields, not 3")
        text, labels, identifier = fields
        try:
            emotions = [_BY_NUMBER[label] for label in labels.split(",")]
        except KeyError:
            raise DatasetError(f"{path}:{number}: labels are {labels!r}, not 0 to 27") from None
        if len(emotions) == 1 and text.strip():
            name = label_space.label(_LABEL[emotions[0]]).name
            yield Dialogue(identifier, (Utterance("0", mend(text), name, id=identifier),))
