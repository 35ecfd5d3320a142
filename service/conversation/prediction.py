"""A prediction: the distribution over a label space for one utterance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.conversation.calibration import Calibration
from service.conversation.labels import AnyLabel, AnyLabelSpace, LabelSpace


@dataclass(frozen=True, slots=True)
class Prediction:
    """A distribution over the labels of a label space, in its order.

    Attributes:
        probabilities: one per label, calibrated, summing to 1.
        label_mass: the probability, 0 to 1, that the labels have together under the model's whole
            vocabulary; low if the model favours other words.
    """

    label_space: AnyLabelSpace
    probabilities: tuple[float, ...]
    label_mass: float

    @property
    def label(self) -> AnyLabel:
        """The most probable label; of equals, the first in the label space's order."""
        best = max(range(len(self.probabilities)), key=self.probabilities.__getitem__)
        return self.label_space.labels[best]

    @property
    def confidence(self) -> float:
        """The most probable label's probability."""
        return max(self.probabilities)

    @property
    def margin(self) -> float:
        """The highest probability minus the next, 0 to 1: near 0 if the model is undecided."""
        following, highest = sorted((0.0, *self.probabilities))[-2:]
        return highest - following


def prediction_from_scores(
    label_space: LabelSpace, scores: Sequence[float], calibration: Calibration
) -> Prediction:
    """Turn the labels' log-probabilities into a prediction.

    Args:
        label_space: L labels.
        scores: L natural logarithms of the labels' probabilities under the model's whole
            vocabulary, in the label space's order.

    Raises:
        ValueError: there are not L scores, a score is NaN or above 0, all scores are minus
            infinity, or the calibration is for another number of labels.
    """
    values = np.asarray(scores, dtype=np.float64)
    # Rounding in the model's log-softmax may lift a label of probability 1 slightly above 0.
    if values.shape != (len(label_space.labels),) or np.isnan(values).any() or values.max() > 1e-3:
        raise ValueError(f"need {len(label_space.labels)} log-probabilities, got {list(scores)}")
    if np.isneginf(values).all():
        raise ValueError("the model gives every label a probability of zero")
    return Prediction(
        label_space,
        tuple(calibration(values).tolist()),
        float(min(1.0, np.exp(values).sum())),
    )
