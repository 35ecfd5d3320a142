"""What a model has to beat: answers that need no language model.

All know the training split alone and see the past of a dialogue at most; their predictions are
compared with a model's by `instructerc-train compare`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from training.metrics import confusion, own_measure
from training.pairing import EncodeTexts, Vectors, nearest_places
from training.predictions import Answer, Floats, Ints, Predictions

# Tried for the vote, by how well each labels the training split from its other dialogues.
_NEIGHBOURS = (1, 4, 8, 16, 32, 64)
# Tried for the classifier, by a fifth of the training dialogues: the inverse of the penalty.
_STRENGTHS = (1.0, 10.0)
_HELD_OUT = 5  # one dialogue in so many
_CONTEXT = 3  # earlier utterances that the classifier sees


@dataclass(frozen=True, slots=True)
class Split:
    """The labelled utterances of a split, with vectors.

    Attributes:
        places: of each, its dialogue's id, its index there, and its own id where it has one.
        dialogues: the number of each one's dialogue, shape (utterances,).
        gold: shape (utterances,), places in the label space.
        vectors: shape (utterances, dimensions), unit length.
        contexts: shape (utterances, (1 + 3) * dimensions): its vector, and those of the three
            utterances before it, zero where there is none.
    """

    places: tuple[tuple[str, int, str | None], ...]
    dialogues: Ints
    gold: Ints
    vectors: Vectors
    contexts: Vectors


def encode_split(
    dialogues: Sequence[Dialogue], label_space: LabelSpace, encode: EncodeTexts
) -> Split:
    """Encode every utterance; those without a label are context only."""
    texts = [u.text for dialogue in dialogues for u in dialogue.utterances]
    return split_of(dialogues, label_space, encode(texts))


def split_of(dialogues: Sequence[Dialogue], label_space: LabelSpace, encoded: Vectors) -> Split:
    """The same, of vectors that are there: one for every utterance, in order."""
    width = encoded.shape[1]
    places, numbers, gold, rows, contexts = [], [], [], [], []
    start = 0
    for number, dialogue in enumerate(dialogues):
        for index, utterance in enumerate(dialogue.utterances):
            if utterance.label is not None:
                row = start + index
                context = np.zeros((1 + _CONTEXT) * width, np.float32)
                for back in range(min(index, _CONTEXT) + 1):
                    context[back * width : (back + 1) * width] = encoded[row - back]
                places.append((dialogue.id, index, utterance.id))
                numbers.append(number)
                gold.append(label_space.names.index(label_space.label(utterance.label).name))
                rows.append(row)
                contexts.append(context)
        start += len(dialogue.utterances)
    return Split(
        tuple(places), np.asarray(numbers), np.asarray(gold), encoded[rows], np.stack(contexts)
    )


def baselines(train: Split, asked: Split, label_space: LabelSpace) -> dict[str, Predictions]:
    """Every baseline's predictions, by its name.

    majority: the shares of labels in the training split. copied: the label of the most similar
    training utterance. neighbours: the vote of the k most similar. classifier: logistic regression
    on the sentence encoder's vectors of the utterance and the three before it.
    """
    said = {
        "majority": np.tile(_shares(train, label_space), (len(asked.gold), 1)),
        "copied": _vote(train, asked, label_space, 1),
        "neighbours": _vote(train, asked, label_space, _best_count(train, label_space)),
        "classifier": _classified(train, asked, label_space),
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


def classified(
    train: Split,
    rows: npt.NDArray[np.bool_],
    contexts: Vectors,
    labels: int,
    strength: float = 1.0,
) -> Floats:
    """What logistic regression says of contexts, shape (contexts, labels).

    Args:
        rows: those of `train` that it is fitted on.
        strength: the inverse of the penalty.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=300)
    model.fit(train.contexts[rows], train.gold[rows])
    probabilities = np.zeros((len(contexts), labels))
    probabilities[:, model.classes_] = model.predict_proba(contexts)
    return probabilities


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
