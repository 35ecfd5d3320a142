"""Dialogues with a rule: how the speaker last felt, whatever others said since."""

from random import Random

import numpy as np

from training.arrays import Floats, Ints
from training.discriminative.turns import UNLABELLED, Turns

LABELS = 2
DIMENSIONS = 8


def planted(count: int, seed: int) -> list[Turns]:
    """Two or three people say how they feel, and then all say the same, in any order.

    Lines of the second part are alike, so that a line tells nothing; its label is its speaker's.
    """
    rng = Random(seed)
    return [_dialogue(rng, rng.randint(2, 3)) for _ in range(count)]


def _dialogue(rng: Random, people: int) -> Turns:
    feelings = [rng.randrange(LABELS) for _ in range(people)]
    feelings[1] = 1 - feelings[0]  # so that no label is the dialogue's
    speakers = [*range(people), *(rng.randrange(people) for _ in range(4))]
    vectors = np.zeros((len(speakers), DIMENSIONS), np.float32)
    vectors[:, LABELS] = 1.0
    for turn in range(people):
        vectors[turn] = np.eye(DIMENSIONS)[feelings[turn]]
    gold = np.asarray([feelings[who] for who in speakers], np.int64)
    gold[:people] = UNLABELLED
    return Turns(vectors, np.asarray(speakers, np.int64), gold)


def labels_of(dialogues: list[Turns]) -> Ints:
    """Of the turns that have one."""
    gold = np.concatenate([one.gold for one in dialogues])
    labelled: Ints = gold[gold != UNLABELLED]
    return labelled


def share_right(probabilities: Floats, dialogues: list[Turns]) -> float:
    return float((probabilities.argmax(1) == labels_of(dialogues)).mean())
