"""Label spaces of a tenant's own, which no model was trained on: answered from a few examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from service.conversation.few_shot import FewShot, features
from service.conversation.labels import LabelSpace, UnknownLabel
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
class OwnLabels:
    """Labels of somebody's own, as they were put.

    Attributes:
        source: the label space that the model is asked in.
    """

    name: str
    title: str
    source: LabelSpace
    labels: tuple[OwnLabel, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @cached_property
    def _by_name(self) -> Mapping[str, OwnLabel]:
        return {label.name: label for label in self.labels}

    def label(self, name: str) -> OwnLabel:
        """The label called `name`, without regard to case.

        Raises:
            UnknownLabel: there is none; the message lists those there are.
        """
        found = self._by_name.get(name.casefold())
        if found is None:
            names = ", ".join(self._by_name)
            raise UnknownLabel(f"{name!r} is not a label of {self.name}: {names}")
        return found


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
