"""A corpus in numbers: how much there is, of what, by whom, and how long."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from service.conversation.labels import LabelSpace
from training.datasets.located import LocatedDialogue


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of lengths or counts."""

    least: int
    median: float
    mean: float
    most: int


@dataclass(frozen=True, slots=True)
class Figures:
    """A corpus in numbers.

    Attributes:
        labels: utterances by label, in the label space's order, or the commonest first.
        unlabelled: utterances without a label.
        speakers: utterances by speaker, the most first.
        lengths: by what is counted; empty where there is nothing.
        gaps: dialogues in which numbers are missing between the first utterance's and the last's.
        missing: these numbers, of all dialogues together.
        scattered: dialogues whose rows stand apart or out of order.
    """

    dialogues: int
    utterances: int
    labels: Mapping[str, int]
    unlabelled: int
    speakers: Mapping[str, int]
    lengths: Mapping[str, Spread]
    gaps: int
    missing: int
    scattered: int


def figures(dialogues: Sequence[LocatedDialogue], label_space: LabelSpace | None) -> Figures:
    """The numbers of the dialogues that a corpus holds."""
    utterances = [one.utterance for dialogue in dialogues for one in dialogue.utterances]
    labels = Counter(utterance.label for utterance in utterances)
    unlabelled = labels.pop(None, 0)
    order = [name for name, _ in labels.most_common() if name is not None]
    missing = [_missing(dialogue) for dialogue in dialogues]
    lengths = {
        "utterances a dialogue": [len(dialogue.utterances) for dialogue in dialogues],
        "words an utterance": [len(utterance.text.split()) for utterance in utterances],
        "characters an utterance": [len(utterance.text) for utterance in utterances],
    }
    return Figures(
        dialogues=len(dialogues),
        utterances=len(utterances),
        labels={name: labels[name] for name in (label_space.names if label_space else order)},
        unlabelled=unlabelled,
        speakers=dict(Counter(utterance.speaker for utterance in utterances).most_common()),
        lengths={what: _spread(numbers) for what, numbers in lengths.items() if numbers},
        gaps=sum(number > 0 for number in missing),
        missing=sum(missing),
        scattered=sum(dialogue.scattered for dialogue in dialogues),
    )


def _missing(dialogue: LocatedDialogue) -> int:
    """How many numbers are missing between utterances, where the corpus numbers them."""
    numbers = [one.number for one in dialogue.utterances if one.number is not None]
    return sum(max(after - before - 1, 0) for before, after in pairwise(numbers))


def _spread(numbers: Iterable[int]) -> Spread:
    of = sorted(numbers)
    return Spread(of[0], median(of), fmean(of), of[-1])
