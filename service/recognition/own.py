"""Label spaces of a tenant's own, learned from a few examples."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.conversation.few_shot import FewShot, features
from service.conversation.labels import Labels, LabelSpace
from service.conversation.prediction import Prediction


@dataclass(frozen=True, slots=True)
class OwnLabel:
    """A label of a tenant's own.

    Attributes:
        sentence: its description.
        examples: texts that carry it.
        unified: always None: it maps to no label of the Feeling Wheel.
    """

    name: str
    sentence: str
    examples: tuple[str, ...]
    unified: None = None


@dataclass(frozen=True)
class OwnLabels(Labels[OwnLabel]):
    """A tenant's own labels, as stored.

    Attributes:
        source: the label space that the model reads in.
    """

    source: LabelSpace


@dataclass(frozen=True)
class OwnLabelSpace(OwnLabels):
    """A tenant's own labels, with the classifier learned from their examples.

    Attributes:
        classifier: predicts the label from a line's vector and the model's prediction in `source`.
    """

    classifier: FewShot

    def predict(self, vector: npt.NDArray[np.float32], prediction: Prediction) -> Prediction:
        """Predict from a line's sentence vector and the model's prediction in `source`."""
        probabilities = self.classifier(features(vector, prediction.probabilities))
        return Prediction(self, tuple(probabilities.tolist()), prediction.label_mass)
