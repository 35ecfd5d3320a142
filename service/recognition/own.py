"""Label spaces of a tenant's own, learnt from a few examples."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.conversation.few_shot import FewShot, features
from service.conversation.labels import Labels, LabelSpace
from service.conversation.prediction import Prediction


@dataclass(frozen=True, slots=True)
class OwnLabel:
    """A label of somebody's own.

    Attributes:
        sentence: what it is about, in words.
        examples: what is said where it holds.
        unified: it maps to no label of the Feeling Wheel.
    """

    name: str
    sentence: str
    examples: tuple[str, ...]
    unified: None = None


@dataclass(frozen=True)
class OwnLabels(Labels[OwnLabel]):
    """Labels of somebody's own, as they were put.

    Attributes:
        source: the label space that the model is asked in.
    """

    source: LabelSpace


@dataclass(frozen=True)
class OwnLabelSpace(OwnLabels):
    """Labels of somebody's own, with what was learnt from their examples.

    Attributes:
        classifier: tells the labels apart, by the line and by what the model says in `source`.
    """

    classifier: FewShot

    def said(self, vector: npt.NDArray[np.float32], read: Prediction) -> Prediction:
        """What a line carries, by its sentence vector and what the model read in `source`."""
        shares = self.classifier(features(vector, read.probabilities))
        return Prediction(self, tuple(shares.tolist()), read.label_mass)
