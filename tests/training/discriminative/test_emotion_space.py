"""Utterances of one emotion are near each other, whatever they are about."""

import numpy as np
import pytest

from training.arrays import Ints, Vectors
from training.discriminative.emotion_space import voted

TOPICS, LABELS = 24, 3
SHARES = np.full(LABELS, 1 / LABELS)


def utterances(seed: int, count: int) -> tuple[Vectors, Ints]:
    """Unit vectors that topics decide for the most part, and labels a little."""
    rng = np.random.default_rng(seed)
    topics, gold = rng.integers(0, TOPICS, count), rng.integers(0, LABELS, count)
    vectors = np.zeros((count, TOPICS + LABELS), np.float32)
    vectors[np.arange(count), topics] = 1.0
    vectors[np.arange(count), TOPICS + gold] = 0.2
    vectors += rng.normal(0, 0.1, vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), gold


def test_neighbours_share_the_emotion_where_vectors_are_near_by_topic() -> None:
    """The nearest vector has the utterance's label hardly more often than any other."""
    known, gold = utterances(1, 1200)
    asked, truth = utterances(2, 200)
    nearest = gold[(asked @ known.T).argmax(1)]

    probabilities = voted(known, gold, asked, SHARES, seed=3)

    assert (nearest == truth).mean() < 0.7
    assert (probabilities.argmax(1) == truth).mean() > 0.8
    assert probabilities.sum(1) == pytest.approx(1.0)


def test_same_seed_gives_the_same_votes() -> None:
    known, gold = utterances(1, 300)
    asked, _ = utterances(2, 20)

    votes = [voted(known, gold, asked, SHARES, seed) for seed in (3, 3, 4)]

    assert (votes[0] == votes[1]).all()
    assert (votes[0] != votes[2]).any()


def test_few_utterances_vote_all() -> None:
    """Fewer than a vote takes; a label that none of them has stays possible."""
    known, gold = utterances(1, 5)
    gold[:] = [0, 0, 1, 1, 1]

    probabilities = voted(known, gold, known[:1], np.array([0.4, 0.6, 0.0]) * 0.9 + 0.1 / 3, 1)

    assert probabilities.shape == (1, LABELS)
    assert (probabilities > 0).all()
