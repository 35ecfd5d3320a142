"""GoEmotions (Demszky et al. 2020): single comments, its 27 emotions grouped as Ekman's six.

A tab-separated file without a header: text, comma-separated label numbers, comment id. The
grouping is the authors' `ekman_mapping.json`, in MELD's names; approval, desire and the like count
as joy there. Comments with several labels are left out: they have no single answer.
"""

from collections.abc import Iterator
from pathlib import Path

from service.conversation.dialogue import Utterance
from training.datasets.located import DialogueOrFault, LocatedDialogue, LocatedUtterance, Place
from training.datasets.tables import read_lines
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


def read(path: Path) -> Iterator[DialogueOrFault]:
    """Each comment with one label, as a dialogue of one utterance, both under the comment's id.

    A line without three fields, or with a label number outside 0 to 27, is none.

    Raises:
        DatasetError: no such file.
    """
    for number, line in enumerate(read_lines(path), start=1):
        place = Place(path, number)
        fields = line.split("\t")
        if len(fields) != 3:
            yield place.error(f"{len(fields)} fields, not 3")
            continue
        text, labels, identifier = fields
        emotions = labels.split(",")
        if not _BY_NUMBER.keys() >= {*emotions}:
            yield place.error(f"labels are {labels!r}, not 0 to 27")
        elif len(emotions) == 1 and text.strip():
            label = _LABEL[_BY_NUMBER[labels]]
            utterance = Utterance("0", mend(text), label, id=identifier)
            yield LocatedDialogue(identifier, place, (LocatedUtterance(utterance, place),))
