"""The votes of people's corrections of similar utterances on an answer.

`service.conversation.neighbours` weighs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.conversation.labels import LabelSpace
from service.conversation.neighbours import Neighbour, Trust, mixed, weights
from service.conversation.prediction import Prediction
from service.demonstrations.store import Match
from service.recognition.retrieval import NearCorrection


@dataclass(frozen=True, slots=True)
class Vote:
    """A correction that has a vote, and its share of the answer."""

    match: Match
    neighbour: Neighbour
    weight: float


def votes_on(
    text: str, corrections: Sequence[NearCorrection], label_space: LabelSpace, trust: Trust
) -> list[Vote]:
    """The corrections that have a vote on a text; those of a label that is gone have none."""
    near = [
        each
        for each in corrections
        if each.corrected.correction.demonstration.label in label_space.names
    ]
    if not near:
        return []
    neighbours = [_neighbour(each, label_space) for each in near]
    shares = weights(neighbours, len(text.split()), trust)
    return [
        Vote(each.corrected.match, neighbour, weight)
        for each, neighbour, weight in zip(near, neighbours, shares, strict=True)
        if weight > 0
    ]


def with_votes(prediction: Prediction, votes: Sequence[Vote]) -> Prediction:
    """The model's prediction mixed with the votes."""
    return mixed(prediction, [vote.neighbour for vote in votes], [vote.weight for vote in votes])


def _neighbour(near: NearCorrection, label_space: LabelSpace) -> Neighbour:
    correction = near.corrected.correction
    return Neighbour(
        label_space.names.index(correction.demonstration.label),
        near.corrected.similarity,
        near.context_similarity,
        correction.corrected_at,
    )
