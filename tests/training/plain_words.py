"""Dialogues of words that an encoder tells apart at sight."""

from collections.abc import Sequence

import numpy as np

from service.conversation.dialogue import Dialogue, Utterance
from training.arrays import Vectors

WORDS = ("hurrah", "alas", "grr", "well")


def encode(texts: Sequence[str]) -> Vectors:
    """A direction for each word; unlike texts of one word are near each other."""
    vectors = np.zeros((len(texts), len(WORDS) + 1), np.float32)
    for row, text in enumerate(texts):
        vectors[row, WORDS.index(text.split()[0])] = 1.0
        vectors[row, -1] = 0.1 * len(text.split())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def dialogue(name: str, *lines: tuple[str, str | None]) -> Dialogue:
    return Dialogue(
        name,
        tuple(Utterance("Ann", text, label, id=f"{name}-{text}") for text, label in lines),
    )
