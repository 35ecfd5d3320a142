"""What a model has to beat: answers that need no language model.

All know the training split alone and see the past of a dialogue at most; their predictions are
compared with a model's by `instructerc-train compare`.
"""

import numpy as np

from service.conversation.labels import LabelSpace
from training.arrays import Floats
from training.evaluation.metrics import confusion, own_measure
from training.evaluation.predictions import Answer, Predictions
from training.mixture.classifier import Split, classified
from training.mixture.pairing import nearest_places

NAMES = ("majority", "copied", "neighbours", "classifier")

# Tried for the vote, by how well each labels the training split from its other dialogues.
_NEIGHBOURS = (1, 4, 8, 16, 32, 64)
# Tried for the classifier, by a fifth of the training dialogues: the inverse of the penalty.
_STRENGTHS = (1.0, 10.0)
_HELD_OUT = 5  # one dialogue in so many


def baselines(train: Split, asked: Split, label_space: LabelSpace) -> dict[str, Predictions]:
    """Every baseline's predictions, by its name.

    majority: the shares of labels in the training split. copied: the label of the most similar
    training utterance. neighbours: the vote of the k most similar. classifier: logistic regression
    on the sentence encoder's vectors of the utterance and the three before it.
    """
    majority, copied, neighbours, classifier = NAMES
    said = {
        majority: np.tile(_shares(train, label_space), (len(asked.gold), 1)),
        copied: _vote(train, asked, label_space, 1),
        neighbours: _vote(train, asked, label_space, _best_count(train, label_space)),
        classifier: _classified(train, asked, label_space),
    }
    return {name: _predictions(asked, label_space, rows) for name, rows in said.items()}


def _shares(train: Split, label_space: LabelSpace) -> Floats:
    counts = np.bincount(train.gold, minlength=len(label_space.names)) + 1.0
    shares: Floats = counts / counts.sum()
    return shares


def _vote(train: Split, asked: Split, label_space: LabelSpace, count: int) -> Floats:
    """Shares of labels among the nearest, a single neighbour's worth of the prior beside them."""
    votes = _before_the_vote(train, len(asked.gold), label_space)
    for row, nearest in zip(
        votes, nearest_places(asked.vectors, train.vectors, count), strict=True
    ):
        np.add.at(row, train.gold[nearest], 1.0)
    shares: Floats = votes / votes.sum(1, keepdims=True)
    return shares


def _before_the_vote(train: Split, rows: int, label_space: LabelSpace) -> Floats:
    """The prior, which breaks ties and never outvotes a neighbour; shape (rows, labels)."""
    return np.tile(_shares(train, label_space) * 0.99, (rows, 1))


def _best_count(train: Split, label_space: LabelSpace) -> int:
    """How many neighbours label the training split best, each from other dialogues."""
    labels = len(label_space.names)
    score = own_measure(label_space.name, label_space.names)
    own = [np.flatnonzero(train.dialogues == n) for n in range(train.dialogues.max() + 1)]
    excluded = [own[dialogue] for dialogue in train.dialogues]
    said = {count: np.zeros(len(train.gold), np.int64) for count in _NEIGHBOURS}
    votes = _before_the_vote(train, len(train.gold), label_space)
    found = nearest_places(train.vectors, train.vectors, max(_NEIGHBOURS), excluded)
    for number, nearest in enumerate(found):
        for voters, place in enumerate(nearest, start=1):
            votes[number, train.gold[place]] += 1.0
            if voters in said:
                said[voters][number] = votes[number].argmax()
        for count in _NEIGHBOURS:
            if count > len(nearest):  # there are no more
                said[count][number] = votes[number].argmax()
    return max(said, key=lambda count: float(score(confusion(train.gold, said[count], labels))))


def _classified(train: Split, asked: Split, label_space: LabelSpace) -> Floats:
    held_out = train.dialogues % _HELD_OUT == _HELD_OUT - 1
    labels = len(label_space.names)
    own = own_measure(label_space.name, label_space.names)

    def score(strength: float) -> float:
        said = classified(train, ~held_out, train.contexts[held_out], labels, strength)
        return float(own(confusion(train.gold[held_out], said.argmax(1), labels)))

    best = max(_STRENGTHS, key=score) if held_out.any() and not held_out.all() else 1.0
    return classified(train, np.ones_like(held_out), asked.contexts, labels, best)


def _predictions(asked: Split, label_space: LabelSpace, rows: Floats) -> Predictions:
    return Predictions(
        label_space.name,
        label_space.names,
        tuple(
            Answer(dialogue, index, int(gold), tuple(map(float, row)), utterance=utterance)
            for (dialogue, index, utterance), gold, row in zip(
                asked.places, asked.gold, rows, strict=True
            )
        ),
    )
