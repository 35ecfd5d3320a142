"""Logistic regression on the sentence encoder's vectors of an utterance and those before it.

A baseline that models are compared with, and the teacher that they may be trained by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from training.arrays import Floats, Ints, Vectors
from training.discriminative.turns import Turns, turns_of
from training.mixture.pairing import EncodeTexts

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
        turns: every dialogue whole, with the vectors of utterances that have no label.
    """

    places: tuple[tuple[str, int, str | None], ...]
    dialogues: Ints
    gold: Ints
    vectors: Vectors
    contexts: Vectors
    turns: tuple[Turns, ...]


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
        tuple(places),
        np.asarray(numbers),
        np.asarray(gold),
        encoded[rows],
        np.stack(contexts),
        turns_of(dialogues, label_space, encoded),
    )


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
