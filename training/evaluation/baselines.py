"""Baselines: predictions that need no language model.

All know the training split alone and see the past of a dialogue at most; their predictions are
compared with a model's by `instructerc-train compare`.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from service.conversation.labels import LabelSpace
from training.arrays import Floats
from training.discriminative.kinds import KINDS
from training.evaluation.metrics import confusion, own_measure
from training.evaluation.predictions import Answer, Predictions
from training.mixture.classifier import Split, classified
from training.mixture.pairing import nearest_places

EMOTION_NEIGHBOURS = "emotion-neighbours"
NAMES = ("majority", "copied", "neighbours", "classifier", EMOTION_NEIGHBOURS, *KINDS)
LEARNT = (EMOTION_NEIGHBOURS, *KINDS)  # anew for each seed
SEEDS = (1, 2, 3)

# Tried for the vote, by how well each labels the training split from its other dialogues.
_NEIGHBOURS = (1, 4, 8, 16, 32, 64)
# Tried for the classifier, by a fifth of the training dialogues: the inverse of the penalty.
_STRENGTHS = (1.0, 10.0)
_HELD_OUT = 5  # one dialogue in so many


def runs(only: Sequence[str] = NAMES, seeds: Sequence[int] = SEEDS) -> list[str]:
    """Names of the baselines' predictions; those of a seed end with it: `turn-graph@1`.

    Raises:
        ValueError: there is no such baseline, or one is named twice, or a seed.
    """
    if unknown := [name for name in only if name not in NAMES]:
        raise ValueError(f"unknown baseline {unknown[0]!r}; known are {', '.join(NAMES)}")
    names = [run for name in only for run in _runs(name, seeds)]
    if twice := [run for place, run in enumerate(names) if run in names[:place]]:
        raise ValueError(f"{twice[0]} is given twice")
    return names


def baselines(
    train: Split,
    asked: Split,
    label_space: LabelSpace,
    only: Sequence[str] = NAMES,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[tuple[str, Predictions]]:
    """Each baseline's predictions, by the names that `runs` gives.

    majority: the shares of labels in the training split. copied: the label of the most similar
    training utterance. neighbours: the vote of the k most similar. classifier: logistic regression
    on the sentence encoder's vectors of the utterance and the three before it. Of each seed, all on
    these vectors: emotion-neighbours, the vote of the nearest in a space of emotions;
    speaker-states, attention over the past with a recurrent state for each speaker; and turn-graph,
    attention over a relational graph of earlier turns.
    """
    labels = len(label_space.names)
    for name in only:
        if name in KINDS:
            from training.discriminative.fitting import answered, fitted  # torch loads here

            for seed, run in zip(seeds, _runs(name, seeds), strict=True):
                model = fitted(name, train.turns, labels, seed)
                yield run, _predictions(asked, label_space, answered(model, asked.turns, labels))
        elif name == EMOTION_NEIGHBOURS:
            from training.discriminative.emotion_space import voted

            shares = _shares(train, label_space)
            for seed, run in zip(seeds, _runs(name, seeds), strict=True):
                rows = voted(train.contexts, train.gold, asked.contexts, shares, seed)
                yield run, _predictions(asked, label_space, rows)
        else:
            yield name, _predictions(asked, label_space, _plain(name, train, asked, label_space))


def out_of_fold(
    train: Split,
    label_space: LabelSpace,
    only: Sequence[str] = KINDS,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[tuple[str, Predictions]]:
    """Predictions of the training split by baselines with seeds, each fitted on other dialogues."""
    from training.discriminative.fitting import out_of_fold_probabilities

    for name in only:
        for seed, run in zip(seeds, _runs(name, seeds), strict=True):
            rows = out_of_fold_probabilities(name, train.turns, len(label_space.names), seed)
            yield run, _predictions(train, label_space, rows)


def _runs(name: str, seeds: Sequence[int]) -> list[str]:
    return [f"{name}@{seed}" for seed in seeds] if name in LEARNT else [name]


def _plain(name: str, train: Split, asked: Split, label_space: LabelSpace) -> Floats:
    match name:
        case "majority":
            return np.tile(_shares(train, label_space), (len(asked.gold), 1))
        case "copied":
            return _vote(train, asked, label_space, 1)
        case "neighbours":
            return _vote(train, asked, label_space, _best_count(train, label_space))
        case _:
            return _classified(train, asked, label_space)


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
    predicted = {count: np.zeros(len(train.gold), np.int64) for count in _NEIGHBOURS}
    votes = _before_the_vote(train, len(train.gold), label_space)
    neighbours = nearest_places(train.vectors, train.vectors, max(_NEIGHBOURS), excluded)
    for number, nearest in enumerate(neighbours):
        for voters, place in enumerate(nearest, start=1):
            votes[number, train.gold[place]] += 1.0
            if voters in predicted:
                predicted[voters][number] = votes[number].argmax()
        for count in _NEIGHBOURS:
            if count > len(nearest):  # there are no more
                predicted[count][number] = votes[number].argmax()
    return max(
        predicted, key=lambda count: float(score(confusion(train.gold, predicted[count], labels)))
    )


def _classified(train: Split, asked: Split, label_space: LabelSpace) -> Floats:
    held_out = train.dialogues % _HELD_OUT == _HELD_OUT - 1
    labels = len(label_space.names)
    own = own_measure(label_space.name, label_space.names)

    def score(strength: float) -> float:
        probabilities = classified(train, ~held_out, train.contexts[held_out], labels, strength)
        return float(own(confusion(train.gold[held_out], probabilities.argmax(1), labels)))

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
