"""Summaries of dialogues: stored ones, and those of a batch."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from service.conversation.dialogue import Utterance
from service.conversation.labels import AnyLabelSpace, UnknownLabel
from service.conversation.prediction import Prediction
from service.conversation.summaries import Reading, Summary, summarize
from service.conversation.valence import Valences
from service.recognition.result import Recognition
from service.sessions.overviews import ReadDialogue
from service.sessions.records import Figures, Version
from service.sessions.store import SessionStore

# From as many utterances on, a summary would block the event loop for some milliseconds.
_LONG = 1000


@dataclass(frozen=True, slots=True)
class Summarizer:
    """Summarizes dialogues.

    Attributes:
        label_spaces: every shipped one, by name.
    """

    sessions: SessionStore
    label_spaces: Mapping[str, AnyLabelSpace]
    valences: Valences

    async def stored(self, tenant: str, dialogue_id: str) -> tuple[Version, Summary]:
        """The summary of a stored dialogue, and the version that it is of.

        Raises:
            DialogueNotFound: no dialogue has this id.
            DatabaseUnavailable: the database does not answer.
        """
        dialogue = await self.sessions.overviews.read(tenant, dialogue_id)
        if dialogue.length >= _LONG:
            return dialogue.version, await asyncio.to_thread(self._summarized, dialogue)
        return dialogue.version, self._summarized(dialogue)

    def _summarized(self, dialogue: ReadDialogue) -> Summary:
        return summarize(dialogue.length, [self._compared(each) for each in dialogue.readings()])

    def _compared(self, reading: Reading) -> Reading:
        """A reading whose correction in another label space is compared by unified labels."""
        correction = reading.correction
        if correction is None or correction.agrees is not None:
            return reading
        predicted = self._unified(reading.label_space, reading.label)
        corrected = self._unified(correction.label_space, correction.label)
        if predicted is None or corrected is None:
            return reading
        return replace(reading, correction=replace(correction, agrees=predicted == corrected))

    def _unified(self, label_space: str, label: str) -> str | None:
        space = self.label_spaces.get(label_space)
        try:
            return None if space is None else space.label(label).unified
        except UnknownLabel:  # removed since
            return None

    def scored(
        self, utterances: Sequence[Utterance], recognitions: Sequence[Recognition]
    ) -> Summary:
        """The summary of a dialogue that was recognized and is not stored."""
        readings = []
        for index, (utterance, recognition) in enumerate(
            zip(utterances, recognitions, strict=True)
        ):
            figures = figures_of(recognition.prediction, self.valences)
            readings.append(
                Reading(
                    index,
                    utterance.speaker,
                    utterance.role,
                    recognition.prediction.label_space.name,
                    figures.label,
                    figures.probability,
                    figures.valence,
                )
            )
        return summarize(len(readings), readings)


def figures_of(prediction: Prediction, valences: Valences) -> Figures:
    """What summaries and lists use of a prediction."""
    names = prediction.label_space.names
    probabilities = dict(zip(names, prediction.probabilities, strict=True))
    valence = valences.of_prediction(prediction.label_space.name, probabilities)
    return Figures(prediction.label.name, prediction.confidence, valence, prediction.margin)
