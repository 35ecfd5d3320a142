"""The vote of corrections: how much of an answer similar corrected utterances decide.

The answer is a mixture, p = (1 - w) p_model + w p_neighbours, as in kNN-LM (Khandelwal et al.
2020, section 3, arXiv 1911.00172), where w depends on the similarity of the neighbours (arXiv
2210.15859): the odds w / (1 - w) are those of the most trusted neighbour, and the neighbours share
w in proportion to their odds. A neighbour without a vote does not affect the answer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.conversation.prediction import Prediction

# How many lines before an utterance are its context.
CONTEXT_LINES = 2

# Up to `_WORDLESS` words an utterance means nothing without its context; from `_WORDY` words on it
# needs none.
_WORDLESS = 2
_WORDY = 8
# Up to this similarity two utterances differ, and only share a subject.
_RELATED = 0.75

# A neighbour with lower odds has no vote; the cap on the odds of all neighbours together allows for
# people's mistakes.
_LEAST_ODDS = 0.01
_MOST_ODDS = 9.0

_LARGEST_EXPONENT = 500.0  # exp() of it, and a sum of a few, do not overflow

# The number of most trusted neighbours that have a vote; among equals, the most recent ones.
_VOTERS = 8

# The context similarity where both utterances begin their dialogues, and where one of them does,
# which is about that of two random contexts.
BOTH_BEGIN = 0.65
ONE_BEGINS = 0.25

# If two corrections' similarities differ by no more than this, the more recent one counts.
_EQUALLY_NEAR = 1e-3


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A labelled utterance similar to the target.

    Attributes:
        label: its index in the label space.
        similarity: cosine of the two utterances' vectors.
        context_similarity: cosine of their contexts' vectors, or `BOTH_BEGIN`, `ONE_BEGINS`.
        corrected_at: when its label was given, in any unit.
    """

    label: int
    similarity: float
    context_similarity: float
    corrected_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Trust:
    """How far neighbours are trusted: the logarithm of the odds of one against the model is

    `bias + line * similarity + context * context_similarity + verbatim * near`. `near` is the
    similarity's excess over 0.75, from 0 to 0.25, weighted from 0 at two words to 1 at eight: a
    long utterance means the same elsewhere, "Okay." does not.
    """

    bias: float
    line: float
    context: float
    verbatim: float

    def log_odds(self, similarity: float, context_similarity: float, words: int) -> float:
        """The logarithm of a neighbour's odds for an utterance of `words` words."""
        wordy = min(1.0, max(0.0, (words - _WORDLESS) / (_WORDY - _WORDLESS)))
        return (
            self.bias
            + self.line * similarity
            + self.context * context_similarity
            + self.verbatim * wordy * max(0.0, similarity - _RELATED)
        )

    @property
    def least_similarity(self) -> float:
        """The similarity below which a neighbour has no vote, whatever its context."""
        return min(_RELATED, (math.log(_LEAST_ODDS) - self.bias - self.context) / self.line)

    @property
    def decisive_similarity(self) -> float:
        """The similarity from which a neighbour in the same context decides at least half."""
        return max(self.least_similarity, min(_RELATED, (-self.bias - self.context) / self.line))


def weights(neighbours: Sequence[Neighbour], words: int, trust: Trust) -> list[float]:
    """Each neighbour's share of the answer, 0 to 1: 0 for those without a vote.

    Args:
        words: the number of words of the target.
    """
    odds = [
        math.exp(min(_LARGEST_EXPONENT, trust.log_odds(n.similarity, n.context_similarity, words)))
        for n in neighbours
    ]
    ranked = sorted(
        range(len(odds)), key=lambda i: (odds[i], neighbours[i].corrected_at), reverse=True
    )
    voters: list[int] = []
    overruled = _overruled(neighbours)
    for voter in ranked:
        if odds[voter] < _LEAST_ODDS or len(voters) == _VOTERS:
            break
        if not overruled(voter):
            voters.append(voter)
    shares = [0.0] * len(odds)
    if voters:
        highest = min(odds[voters[0]], _MOST_ODDS)
        vote, total_odds = highest / (1 + highest), sum(odds[voter] for voter in voters)
        for voter in voters:
            shares[voter] = vote * odds[voter] / total_odds
    return shares


def mixed(
    prediction: Prediction, neighbours: Sequence[Neighbour], weights: Sequence[float]
) -> Prediction:
    """Mix the model's prediction with the neighbours' labels.

    Args:
        prediction: the model's.
        weights: the neighbours' shares, as `weights` returns them.
    """
    remainder = 1.0 - sum(weights)
    shares = [remainder * share for share in prediction.probabilities]
    for neighbour, weight in zip(neighbours, weights, strict=True):
        shares[neighbour.label] += weight
    return replace(prediction, probabilities=tuple(shares))


def _overruled(neighbours: Sequence[Neighbour]) -> Callable[[int], bool]:
    """A predicate of a neighbour's index: does a later, equally near one have another label?"""
    labels = np.array([n.label for n in neighbours])
    corrected_at = np.array([n.corrected_at for n in neighbours])
    lines = np.array([n.similarity for n in neighbours])
    contexts = np.array([n.context_similarity for n in neighbours])

    def is_overruled(neighbour: int) -> bool:
        others = (labels != labels[neighbour]) & (corrected_at > corrected_at[neighbour])
        others &= np.abs(lines - lines[neighbour]) <= _EQUALLY_NEAR
        others &= np.abs(contexts - contexts[neighbour]) <= _EQUALLY_NEAR
        return bool(others.any())

    return is_overruled
