"""Answers in every label space: trained, derived, and those of tenants.

An utterance is read in a label space that the model knows, once, and what was found is said in the
labels that were asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from service.conversation.derived import DerivedLabelSpace
from service.conversation.dialogue import Line
from service.conversation.labels import LabelSpace
from service.decoding.bundle import Bundle
from service.decoding.engine import Priority
from service.demonstrations.encoder import Encoder
from service.errors import ForecastNotSupported, UnsupportedLabelSpace
from service.recognition.own import OwnLabels, OwnLabelSpace
from service.recognition.pipeline import Recognition, Recognizer, supported_label_space
from service.side_by_side import together

AnswerSpace = LabelSpace | DerivedLabelSpace | OwnLabelSpace


class Owned(Protocol):
    """Knows the label spaces of tenants' own. Raises Unavailable where a part does not answer."""

    async def find(self, tenant: str, name: str) -> OwnLabelSpace | DerivedLabelSpace | None:
        """The one with this name, in lower case; None: the tenant has none."""
        ...

    async def described(self, tenant: str, name: str) -> OwnLabels | DerivedLabelSpace | None:
        """The same as it was put: the database alone is asked."""
        ...

    async def names(self, tenant: str) -> Sequence[str]:
        """What those that a tenant has are called, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Answerer:
    """Reads utterances with one bundle, and answers in whichever label space is asked for.

    Attributes:
        derived: the derived label spaces that ship, by name, whatever the bundle was trained on.
        encoder: needed where tenants have label spaces of their own.
        own: what they have; None: nothing.
    """

    recognizer: Recognizer
    derived: Mapping[str, DerivedLabelSpace]
    encoder: Encoder | None = None
    own: Owned | None = None

    @property
    def bundle(self) -> Bundle:
        return self.recognizer.bundle

    @property
    def history_lines(self) -> int:
        """How many lines before the target a prompt may show at most."""
        return self.recognizer.history_lines

    async def label_space(self, name: str, tenant: str) -> AnswerSpace:
        """The label space called `name`, without regard to case; the tenant's own after all others.

        Raises:
            UnsupportedLabelSpace: unknown, or the bundle was not trained on it or on its source.
            Unavailable: it may be one of the tenant's own, and a part does not answer.
        """
        known = name.casefold()
        owned: Sequence[str] = ()
        if self.own is not None and not self.ships(known):
            found = await self.own.find(tenant, known)
            if found is not None and is_available(self.bundle, found):
                return found
            owned = await self.own.names(tenant)
        return answered_label_space(
            self.bundle, self.recognizer.label_spaces, self.derived, name, owned
        )

    def ships(self, name: str) -> bool:
        """Whether a name, in lower case, is of a label space that all tenants are answered in."""
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
            DemonstrationsUnavailable: the encoder does not, without which there is no answer in a
                label space of a tenant's own.
        """
        if not isinstance(label_space, OwnLabelSpace):
            found = await self.recognizer.recognize(
                lines, _read_in(label_space), first=first, tenant=tenant, priority=priority
            )
            return _said_in(label_space, found)
        if self.encoder is None:
            raise ValueError("label spaces of tenants' own need an encoder")
        # Corrections in another label space say nothing of these labels.
        reading = self.recognizer.recognize(
            lines,
            label_space.source,
            first=first,
            tenant=tenant,
            priority=priority,
            corrected=False,
        )
        found, vector = await together(reading, self.encoder.encode(lines[-1].text, priority))
        return replace(found, prediction=label_space.said(vector, found.prediction))

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
                space is a tenant's own: of what is not said there is no vector.
            EngineUnavailable: the label engine does not answer.
        """
        if isinstance(label_space, OwnLabelSpace):
            raise ForecastNotSupported(
                f"label space {label_space.name!r} is your own, made of examples: there is no "
                "forecast in it"
            )
        found = await self.recognizer.forecast(
            history, speaker, _read_in(label_space), first=first, tenant=tenant, priority=priority
        )
        return _said_in(label_space, found)


def answered_label_space(
    bundle: Bundle,
    label_spaces: Mapping[str, LabelSpace],
    derived: Mapping[str, DerivedLabelSpace],
    name: str,
    owned: Sequence[str] = (),
) -> AnswerSpace:
    """The label space called `name`, without regard to case, if a bundle's answers can be in it.

    Args:
        owned: what else may be asked for, which the error names.

    Raises:
        UnsupportedLabelSpace: unknown, or the bundle was not trained on it or on its source.
    """
    found = derived.get(name.casefold())
    if found is None:
        available = [d for d in derived if is_available(bundle, derived[d])]
        return supported_label_space(bundle, label_spaces, name, [*available, *owned])
    if not is_available(bundle, found):
        raise UnsupportedLabelSpace(
            f"label_space: {found.name!r} is derived from {found.source.name!r}, which bundle "
            f"{bundle.name} was not trained on; it answers in {', '.join(bundle.label_spaces)}"
        )
    return found


def is_available(bundle: Bundle, label_space: AnswerSpace | OwnLabels) -> bool:
    """Whether a bundle's answers can be in a label space."""
    return _read_in(label_space).name in bundle.label_spaces


def _read_in(label_space: AnswerSpace | OwnLabels) -> LabelSpace:
    return label_space if isinstance(label_space, LabelSpace) else label_space.source


def _said_in(label_space: AnswerSpace, found: Recognition) -> Recognition:
    if isinstance(label_space, DerivedLabelSpace):
        alone = found.model_alone
        return replace(
            found,
            prediction=label_space.summed(found.prediction),
            model_alone=None if alone is None else label_space.summed(alone),
        )
    return found
