"""Explanations of stored answers, from what was stored with them; nothing is written."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from service.admission.places import Places
from service.conversation.dialogue import Demonstration, Line
from service.decoding.engine import reading_dialogue
from service.demonstrations.store import DemonstrationStore
from service.errors import DemonstrationsUnavailable, UtteranceNotFound
from service.priority import Priority
from service.recognition.answering import Answerer, source_of
from service.recognition.explaining import Explanation, explain
from service.sessions.records import StoredUtterance
from service.sessions.store import SessionStore


@dataclass(frozen=True, slots=True)
class Explained:
    """A stored utterance, and why it has its label.

    Attributes:
        explanation: of the label that the model alone gave it.
        votes: the share of the stored answer that corrections decided, 0 to 1.
        missing: the ids of demonstrations that the prompt showed and that are not available now, so
            that `explanation` is without them.
    """

    utterance: StoredUtterance
    explanation: Explanation
    votes: float
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explainer:
    """Reads stored utterances and explains their answers.

    Attributes:
        places: those of utterances in flight; an explanation takes them as a batch does.
    """

    answerer: Answerer
    sessions: SessionStore
    store: DemonstrationStore
    places: Places

    async def read(self, tenant: str, dialogue_id: str, index: int) -> StoredUtterance:
        """One utterance of a stored dialogue.

        Raises:
            DialogueNotFound, UtteranceNotFound: it does not exist.
            DatabaseUnavailable: the database does not answer.
        """
        return (await self._until(tenant, dialogue_id, index, 0))[-1]

    async def explain(self, tenant: str, dialogue_id: str, index: int) -> Explained:
        """Explain the answer to a stored utterance, with the demonstrations that it was shown.

        Raises:
            DialogueNotFound, UtteranceNotFound: it does not exist.
            UnsupportedLabelSpace: the bundle or the tenant no longer has the label space or label.
            EngineUnavailable, DemonstrationsUnavailable, DatabaseUnavailable: a part is
                unavailable; the demonstration store may be.
        """
        utterances = await self._until(tenant, dialogue_id, index, self.answerer.history_lines)
        utterance, answer = utterances[-1], utterances[-1].prediction
        space = await self.answerer.label_space(utterance.label_space, tenant)
        used = answer.get("demonstrations", ())
        shown = [demonstration for demonstration in used if demonstration.get("shown", True)]
        texts: Mapping[str, str] = {}
        if shown:
            with suppress(DemonstrationsUnavailable):
                texts = await self.store.texts({each["id"] for each in shown}, tenant)
        source = source_of(space)
        available = [
            Demonstration(each["id"], source.name, each["label"], texts[each["id"]])
            for each in shown
            if each["id"] in texts and each["label"] in source.names
        ]
        lines = [Line(each.speaker_index, each.text, each.description) for each in utterances]
        with reading_dialogue(tenant, dialogue_id):
            explanation = await explain(
                self.answerer,
                lines,
                space,
                (answer.get("model_alone") or answer["emotion"])["label"],
                available,
                self.places.of(Priority.BATCH, tenant),
                first=utterances[0].index,
                tenant=tenant,
            )
        read = {each.id for each in explanation.demonstrations}
        return Explained(
            utterance,
            explanation,
            _votes(answer),
            tuple(each["id"] for each in shown if each["id"] not in read),
        )

    async def _until(
        self, tenant: str, dialogue_id: str, index: int, before: int
    ) -> tuple[StoredUtterance, ...]:
        """An utterance and at most `before` earlier ones."""
        first = max(0, index - before)
        timeline = await self.sessions.timeline(tenant, dialogue_id, first - 1, index - first + 1)
        if not timeline.utterances or timeline.utterances[-1].index != index:
            raise UtteranceNotFound(f"dialogue {dialogue_id!r} has no utterance {index}")
        return timeline.utterances


def _votes(answer: Mapping[str, Any]) -> float:
    return float(sum(each.get("weight", 0.0) for each in answer.get("demonstrations", ())))
