"""The vote of corrections: how much of an answer similar corrected utterances decide.

The answer is a mixture, p = (1 - w) p_model + w p_neighbours, as kNN-LM has it (Khandelwal et al.
2020, section 3, arXiv 1911.00172), in which w depends on how near the neighbours are (arXiv
2210.15859): the odds w / (1 - w) are those of the most trusted one, and the neighbours share w by
their odds. A neighbour without a vote leaves no trace in the answer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.conversation.prediction import Prediction

# How many lines before an utterance are its context.
CONTEXT_LINES = 2

# Utterances of so many words and fewer say nothing without their context; of so many, everything.
_WORDLESS = 2
_WORDY = 8
# Up to this similarity two utterances are different ones that share a subject.
_RELATED = 0.75

# Neighbours with lower odds have no vote, and all together have no higher ones: people are wrong,
# too.
_LEAST_ODDS = 0.01
_MOST_ODDS = 9.0

_LARGEST_EXPONENT = 500.0  # whose power is a number, and a few of them together, too

# Of those that are trusted most, so many have a vote; of equals the later ones.
_VOTERS = 8

# Contexts are compared with so much in common where both utterances begin their dialogues, and
# where one of them does, about as two by chance have.
BOTH_BEGIN = 0.65
ONE_BEGINS = 0.25

# Of two corrections that are as near as each other, to this difference, the later one counts.
_EQUALLY_NEAR = 1e-3


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A labelled utterance like the one that is asked about.

    Attributes:
        label: its index in the label space.
        similarity: cosine of the two utterances' vectors.
        context_similarity: cosine of their contexts' vectors, or `BOTH_BEGIN`, `ONE_BEGINS`.
        said_at: when its label was said; any unit.
    """

    label: int
    similarity: float
    context_similarity: float
    said_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Trust:
    """How far neighbours are trusted: the logarithm of the odds of one against the model is

    `bias + line * similarity + context * context_similarity + verbatim * near`, where `near` grows
    from 0 to 0.25 with a similarity above 0.75, for utterances of more than two words, wholly so
    from eight words on: an utterance of many words means the same elsewhere, "Okay." does not.
    """

    bias: float
    line: float
    context: float
    verbatim: float

    def log_odds(self, similarity: float, context_similarity: float, words: int) -> float:
        """The logarithm of a neighbour's odds for an utterance of so many words."""
        wordy = min(1.0, max(0.0, (words - _WORDLESS) / (_WORDY - _WORDLESS)))
        return (
            self.bias
            + self.line * similarity
            + self.context * context_similarity
            + self.verbatim * wordy * max(0.0, similarity - _RELATED)
        )

    @property
    def least_similarity(self) -> float:
        """Below it an utterance has no vote, whatever its context."""
        return min(_RELATED, (math.log(_LEAST_ODDS) - self.bias - self.context) / self.line)

    @property
    def decisive_similarity(self) -> float:
        """From it on an utterance has half of an answer, or more, where the context is the same."""
        return max(self.least_similarity, min(_RELATED, (-self.bias - self.context) / self.line))


def weights(neighbours: Sequence[Neighbour], words: int, trust: Trust) -> list[float]:
    """The share of an answer that each neighbour has, 0 to 1: 0 for those that have no vote.

    Args:
        words: of the utterance that is asked about.
    """
    odds = [
        math.exp(min(_LARGEST_EXPONENT, trust.log_odds(n.similarity, n.context_similarity, words)))
        for n in neighbours
    ]
    ranked = sorted(range(len(odds)), key=lambda i: (odds[i], neighbours[i].said_at), reverse=True)
    heard: list[int] = []
    overruled = _overruled(neighbours)
    for one in ranked:
        if odds[one] < _LEAST_ODDS or len(heard) == _VOTERS:
            break
        if not overruled(one):
            heard.append(one)
    shares = [0.0] * len(odds)
    if heard:
        highest = min(odds[heard[0]], _MOST_ODDS)
        together, whole = highest / (1 + highest), sum(odds[one] for one in heard)
        for one in heard:
            shares[one] = together * odds[one] / whole
    return shares


def mixed(
    prediction: Prediction, neighbours: Sequence[Neighbour], weights: Sequence[float]
) -> Prediction:
    """What the model and its neighbours say together.

    Args:
        prediction: the model's.
        weights: of the neighbours, as `weights` found them.
    """
    left = 1.0 - sum(weights)
    shares = [left * share for share in prediction.probabilities]
    for neighbour, weight in zip(neighbours, weights, strict=True):
        shares[neighbour.label] += weight
    return replace(prediction, probabilities=tuple(shares))


def _overruled(neighbours: Sequence[Neighbour]) -> Callable[[int], bool]:
    """Tells of one of the neighbours whether a later one, as near as it, says otherwise."""
    labels = np.array([n.label for n in neighbours])
    said_at = np.array([n.said_at for n in neighbours])
    lines = np.array([n.similarity for n in neighbours])
    contexts = np.array([n.context_similarity for n in neighbours])

    def is_overruled(one: int) -> bool:
        others = (labels != labels[one]) & (said_at > said_at[one])
        others &= np.abs(lines - lines[one]) <= _EQUALLY_NEAR
        others &= np.abs(contexts - contexts[one]) <= _EQUALLY_NEAR
        return bool(others.any())

    return is_overruled
