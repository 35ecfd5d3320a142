"""Answers in every label space: those the bundle was trained on, and those derived from them.

An utterance is read in the label space that the model knows, once, and what was found is said in
the labels that were asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.conversation.derived import DerivedLabelSpace
from service.conversation.dialogue import Line
from service.conversation.labels import LabelSpace
from service.decoding.bundle import Bundle
from service.decoding.engine import Priority
from service.errors import UnsupportedLabelSpace
from service.recognition.pipeline import Recognition, Recognizer, supported_label_space

AnswerSpace = LabelSpace | DerivedLabelSpace


@dataclass(frozen=True, slots=True)
class Answerer:
    """Reads utterances with one bundle, and answers in whichever label space is asked for.

    Attributes:
        derived: the derived label spaces there are, by name, whatever the bundle was trained on.
    """

    recognizer: Recognizer
    derived: Mapping[str, DerivedLabelSpace]

    @property
    def bundle(self) -> Bundle:
        return self.recognizer.bundle

    @property
    def history_lines(self) -> int:
        """How many lines before the target a prompt may show at most."""
        return self.recognizer.history_lines

    def label_space(self, name: str) -> AnswerSpace:
        """The label space called `name`, without regard to case.

        Raises:
            UnsupportedLabelSpace: unknown, or the bundle was not trained on it or on its source.
        """
        return answered_label_space(self.bundle, self.recognizer.label_spaces, self.derived, name)

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
        """
        found = await self.recognizer.recognize(
            lines, _read_in(label_space), first=first, tenant=tenant, priority=priority
        )
        return _said_in(label_space, found)

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
            ForecastNotSupported: the bundle was not trained on the prediction task.
            EngineUnavailable: the label engine does not answer.
        """
        found = await self.recognizer.forecast(
            history, speaker, _read_in(label_space), first=first, tenant=tenant, priority=priority
        )
        return _said_in(label_space, found)


def answered_label_space(
    bundle: Bundle,
    label_spaces: Mapping[str, LabelSpace],
    derived: Mapping[str, DerivedLabelSpace],
    name: str,
) -> AnswerSpace:
    """The label space called `name`, without regard to case, if a bundle's answers can be in it.

    Raises:
        UnsupportedLabelSpace: unknown, or the bundle was not trained on it or on its source.
    """
    found = derived.get(name.casefold())
    if found is None:
        return supported_label_space(
            bundle, label_spaces, name, [d for d in derived if is_available(bundle, derived[d])]
        )
    if not is_available(bundle, found):
        raise UnsupportedLabelSpace(
            f"label_space: {found.name!r} is derived from {found.source.name!r}, which bundle "
            f"{bundle.name} was not trained on; it answers in {', '.join(bundle.label_spaces)}"
        )
    return found


def is_available(bundle: Bundle, label_space: LabelSpace | DerivedLabelSpace) -> bool:
    """Whether a bundle's answers can be in a label space."""
    return _read_in(label_space).name in bundle.label_spaces


def _read_in(label_space: AnswerSpace) -> LabelSpace:
    return label_space.source if isinstance(label_space, DerivedLabelSpace) else label_space


def _said_in(label_space: AnswerSpace, found: Recognition) -> Recognition:
    if isinstance(label_space, DerivedLabelSpace):
        return replace(found, prediction=label_space.summed(found.prediction))
    return found
