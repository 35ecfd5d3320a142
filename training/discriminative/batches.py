"""Dialogues of about the same length beside each other, as tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from training.discriminative.turns import UNLABELLED, Turns


@dataclass(frozen=True, slots=True)
class Batch:
    """Dialogues beside each other, padded behind their ends.

    Attributes:
        vectors: shape (dialogues, turns, dimensions); zero where there is no turn.
        speakers: shape (dialogues, turns); 0 where there is no turn.
        gold: shape (dialogues, turns); `UNLABELLED` where there is no turn.
    """

    vectors: torch.Tensor
    speakers: torch.Tensor
    gold: torch.Tensor


def batch_of(dialogues: Sequence[Turns]) -> Batch:
    """Pad dialogues to the longest."""
    longest = max(len(one.gold) for one in dialogues)
    shape = len(dialogues), longest
    vectors = np.zeros((*shape, dialogues[0].vectors.shape[1]), np.float32)
    speakers = np.zeros(shape, np.int64)
    gold = np.full(shape, UNLABELLED, np.int64)
    for row, one in enumerate(dialogues):
        turns = len(one.gold)
        vectors[row, :turns], speakers[row, :turns] = one.vectors, one.speakers
        gold[row, :turns] = one.gold
    return Batch(*map(torch.from_numpy, (vectors, speakers, gold)))


def places_by_length(dialogues: Sequence[Turns], most: int, rng: Random) -> Iterator[list[int]]:
    """Places of dialogues that are about as long as each other, in a random order.

    Args:
        most: turns of a batch, padding counted; a longer dialogue is a batch of its own.
    """
    order = sorted(range(len(dialogues)), key=lambda n: (len(dialogues[n].gold), rng.random()))
    batches: list[list[int]] = []
    for place in order:  # the last one of a batch is its longest
        if not batches or (len(batches[-1]) + 1) * len(dialogues[place].gold) > most:
            batches.append([])
        batches[-1].append(place)
    rng.shuffle(batches)
    yield from batches
