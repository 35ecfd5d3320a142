"""Answers in every label space: trained, derived, and tenants' own.

The model reads an utterance once, in a label space that it was trained on; its prediction is then
converted to the requested labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from service.concurrency import together
from service.conversation.derived import DerivedLabelSpace
from service.conversation.dialogue import Line
from service.conversation.few_shot import OwnLabels, OwnLabelSpace
from service.conversation.labels import LabelSpace
from service.conversation.prediction import Prediction
from service.decoding.bundle import Bundle
from service.demonstrations.encoder import Encoder, Vector
from service.errors import ForecastNotSupported, UnsupportedLabelSpace
from service.priority import Priority
from service.recognition.pipeline import Recognizer
from service.recognition.result import Recognition
from service.recognition.supported import supported_label_space

AnswerSpace = LabelSpace | DerivedLabelSpace | OwnLabelSpace


class OwnLabelSpaceSource(Protocol):
    """The label spaces of tenants' own. Raises Unavailable if a part does not answer."""

    async def find(self, tenant: str, name: str) -> OwnLabelSpace | DerivedLabelSpace | None:
        """The tenant's label space with this name, in lower case; None if there is none."""
        ...

    async def described(self, tenant: str, name: str) -> OwnLabels | DerivedLabelSpace | None:
        """The label space as stored, without a classifier; needs only the database."""
        ...

    async def names(self, tenant: str) -> Sequence[str]:
        """The names of the tenant's label spaces, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Answerer:
    """Reads utterances with one bundle, and answers in the requested label space.

    Attributes:
        derived: the shipped derived label spaces, by name, whatever the bundle was trained on.
        encoder: required if tenants have label spaces of their own.
        own: tenants' own label spaces; None: there are none.
    """

    recognizer: Recognizer
    derived: Mapping[str, DerivedLabelSpace]
    encoder: Encoder | None = None
    own: OwnLabelSpaceSource | None = None

    @property
    def bundle(self) -> Bundle:
        return self.recognizer.bundle

    @property
    def history_lines(self) -> int:
        """The most lines before the target that a reading uses."""
        return self.recognizer.history_lines

    async def label_space(self, name: str, tenant: str) -> AnswerSpace:
        """The label space called `name`, without regard to case; shipped ones take precedence.

        Raises:
            UnsupportedLabelSpace: it is unknown, or the bundle was not trained on it or its source.
            Unavailable: it may be one of the tenant's own, and a part does not answer.
        """
        key = name.casefold()
        owned: Sequence[str] = ()
        if self.own is not None and not self.ships(key):
            own_space = await self.own.find(tenant, key)
            if own_space is not None and is_available(self.bundle, own_space):
                return own_space
            owned = await self.own.names(tenant)
        return answered_label_space(
            self.bundle, self.recognizer.label_spaces, self.derived, name, owned
        )

    def ships(self, name: str) -> bool:
        """Whether the name, in lower case, is that of a shipped label space."""
        return name in self.recognizer.label_spaces or name in self.derived

    async def recognize(
        self,
        lines: Sequence[Line],
        label_space: AnswerSpace,
        *,
        first: int = 0,
        tenant: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Recognition:
        """Read the emotion of the last of `lines`, as `Recognizer.recognize` does.

        Args:
            label_space: one that `label_space` returned.

        Raises:
            EngineUnavailable: the label engine does not answer.
            DemonstrationsUnavailable: the encoder does not answer, which a tenant's own label space
                requires.
        """
        if not isinstance(label_space, OwnLabelSpace):
            recognition = await self.recognizer.recognize(
                lines, source_of(label_space), first=first, tenant=tenant, priority=priority
            )
            return _recognition_in(label_space, recognition)
        if self.encoder is None:
            raise ValueError("tenants' own label spaces need an encoder")
        # Corrections are in other labels than these.
        reading = self.recognizer.recognize(
            lines,
            label_space.source,
            first=first,
            tenant=tenant,
            priority=priority,
            corrected=False,
        )
        recognition, vector = await together(reading, self.encoder.encode(lines[-1].text, priority))
        prediction = in_labels_of(label_space, recognition.prediction, vector)
        return replace(recognition, prediction=prediction)

    async def forecast(
        self,
        history: Sequence[Line],
        speaker: int,
        label_space: AnswerSpace,
        *,
        first: int = 0,
        tenant: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Recognition:
        """Predict the emotion of what `speaker` says next, as `Recognizer.forecast` does.

        Args:
            label_space: one that `label_space` returned.

        Raises:
            ForecastNotSupported: the bundle was not trained on the prediction task, or the label
                space is a tenant's own, which needs the vector of a text.
            EngineUnavailable: the label engine does not answer.
        """
        if isinstance(label_space, OwnLabelSpace):
            raise ForecastNotSupported(
                f"label space {label_space.name!r} is your own, made from examples: forecasts do "
                "not support it"
            )
        recognition = await self.recognizer.forecast(
            history, speaker, source_of(label_space), first=first, tenant=tenant, priority=priority
        )
        return _recognition_in(label_space, recognition)


def answered_label_space(
    bundle: Bundle,
    label_spaces: Mapping[str, LabelSpace],
    derived: Mapping[str, DerivedLabelSpace],
    name: str,
    owned: Sequence[str] = (),
) -> AnswerSpace:
    """The label space called `name`, without regard to case, if the bundle can answer in it.

    Args:
        owned: names of the tenant's own label spaces, for the error message.

    Raises:
        UnsupportedLabelSpace: it is unknown, or the bundle was not trained on it or its source.
    """
    space = derived.get(name.casefold())
    if space is None:
        available = [d for d in derived if is_available(bundle, derived[d])]
        return supported_label_space(bundle, label_spaces, name, [*available, *owned])
    if not is_available(bundle, space):
        raise UnsupportedLabelSpace(
            f"label_space: {space.name!r} is derived from {space.source.name!r}, which bundle "
            f"{bundle.name} was not trained on; the bundle supports "
            f"{', '.join(bundle.label_spaces)}"
        )
    return space


def is_available(bundle: Bundle, label_space: AnswerSpace | OwnLabels) -> bool:
    """Whether a bundle can answer in a label space."""
    return source_of(label_space).name in bundle.label_spaces


def source_of(label_space: AnswerSpace | OwnLabels) -> LabelSpace:
    """The label space that the model reads in."""
    return label_space if isinstance(label_space, LabelSpace) else label_space.source


def in_labels_of(
    label_space: AnswerSpace, prediction: Prediction, vector: Vector | None = None
) -> Prediction:
    """What a prediction in `source_of(label_space)` is in the label space.

    Args:
        vector: of the text, which a tenant's own label space requires.
    """
    if isinstance(label_space, DerivedLabelSpace):
        return label_space.summed(prediction)
    if isinstance(label_space, OwnLabelSpace):
        assert vector is not None  # noqa: S101, the caller encodes every text
        return label_space.predict(vector, prediction)
    return prediction


def _recognition_in(label_space: LabelSpace | DerivedLabelSpace, read: Recognition) -> Recognition:
    alone = read.model_alone
    return replace(
        read,
        prediction=in_labels_of(label_space, read.prediction),
        model_alone=None if alone is None else in_labels_of(label_space, alone),
    )
