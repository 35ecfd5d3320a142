"""Valence: how positive or negative an utterance is, on one scale for several label spaces.

A label space has it where one that is derived from it divides its labels into positive, neutral
and negative: the valence is the positive probability minus the negative one. That is a weighted sum
of the label space's own probabilities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from service.conversation.derived import DerivedLabelSpace

# Valences are whole millionths, so that their sums are exact in any order and in any database.
UNIT = 1_000_000
"""The valence of an utterance that is certainly positive."""

_POSITIVE, _NEUTRAL, _NEGATIVE = "positive", "neutral", "negative"


@dataclass(frozen=True, slots=True)
class Valences:
    """The valence of predictions and labels, in millionths: -1,000,000 to 1,000,000.

    Attributes:
        weights: the valence of each label, -1 to 1, by label space and label.
    """

    weights: Mapping[str, Mapping[str, float]]

    def of_prediction(self, label_space: str, probabilities: Mapping[str, float]) -> int | None:
        """The valence of a prediction; None if its label space has none."""
        weights = self.weights.get(label_space)
        if weights is None or not weights.keys() >= probabilities.keys():
            return None
        mean = sum(weights[label] * share for label, share in probabilities.items())
        return round(UNIT * max(-1.0, min(1.0, mean)))

    def of_label(self, label_space: str, label: str) -> int | None:
        """The valence of an utterance that certainly has a label; None if it has none."""
        weight = self.weights.get(label_space, {}).get(label)
        return None if weight is None else round(UNIT * weight)


def is_sentiment(space: DerivedLabelSpace) -> bool:
    """Whether a label space divides its source's labels into positive, neutral and negative."""
    return set(space.names) == {_POSITIVE, _NEUTRAL, _NEGATIVE}


def valences_of(derived: Mapping[str, DerivedLabelSpace]) -> Valences:
    """The valences that derived label spaces of sentiments give, to themselves and their sources.

    Of several that divide the same source, the first counts.
    """
    weights: dict[str, Mapping[str, float]] = {}
    for space in derived.values():
        if is_sentiment(space):
            positive, negative = space.label(_POSITIVE).of, space.label(_NEGATIVE).of
            weights[space.name] = {_POSITIVE: 1.0, _NEUTRAL: 0.0, _NEGATIVE: -1.0}
            of_source = {
                name: positive.get(name, 0.0) - negative.get(name, 0.0)
                for name in space.source.names
            }
            weights.setdefault(space.source.name, of_source)
    return Valences(MappingProxyType(weights))
