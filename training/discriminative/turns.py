"""Dialogues as the discriminative models read them: a vector and a speaker for each turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.conversation.dialogue import Dialogue, SpeakerIndexes
from service.conversation.labels import LabelSpace
from training.arrays import Ints, Vectors

UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Turns:
    """One dialogue, whole: an utterance without a label is context, too.

    Attributes:
        vectors: of the sentence encoder, shape (turns, dimensions).
        speakers: by first appearance, shape (turns,): who somebody is in other dialogues is not
            known.
        gold: places in the label space, or `UNLABELLED`, shape (turns,).
    """

    vectors: Vectors
    speakers: Ints
    gold: Ints


def turns_of(
    dialogues: Sequence[Dialogue], label_space: LabelSpace, encoded: Vectors
) -> tuple[Turns, ...]:
    """Each dialogue with the vectors of its utterances.

    Args:
        encoded: a vector for every utterance, in order; what is returned are views of it.
    """
    turns = []
    start = 0
    for dialogue in dialogues:
        indexes = SpeakerIndexes()
        end = start + len(dialogue.utterances)
        turns.append(
            Turns(
                encoded[start:end],
                np.asarray([indexes.of(u.speaker) for u in dialogue.utterances], np.int64),
                np.asarray(
                    [
                        UNLABELLED
                        if u.label is None
                        else label_space.names.index(label_space.label(u.label).name)
                        for u in dialogue.utterances
                    ],
                    np.int64,
                ),
            )
        )
        start = end
    return tuple(turns)


def pieces(dialogue: Turns, most: int, before: int) -> list[Turns]:
    """A dialogue in pieces of at most `most` turns, each behind the `before` turns ahead of it.

    Those are there as context, without their labels: each label is in one piece.
    """
    parts = []
    for start in range(0, len(dialogue.gold), most):
        part = slice(max(0, start - before), start + most)
        gold = dialogue.gold[part].copy()
        gold[: start - part.start] = UNLABELLED
        speakers = np.unique(dialogue.speakers[part], return_inverse=True)[1]
        parts.append(Turns(dialogue.vectors[part], speakers.astype(np.int64), gold))
    return parts
