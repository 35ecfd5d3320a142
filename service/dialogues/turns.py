"""One turn of a stored dialogue: predict the emotion, then store both in one write.

The response is sent when utterance and prediction are on disk; a turn that fails leaves no trace.
The next turn can be forecast; a forecast is not stored.
"""

from dataclasses import dataclass
from typing import Any, cast

from service.admission.deadline import to_the_end
from service.admission.places import Places
from service.concurrency import NamedLocks
from service.conversation.dialogue import Line, Utterance
from service.conversation.valence import Valences
from service.decoding.engine import reading_dialogue
from service.dialogues.rules import RuleReader
from service.dialogues.summaries import figures_of
from service.errors import DialogueBusy, DialogueFull
from service.priority import Priority
from service.recognition.answering import Answerer
from service.recognition.document import RecognitionDocument, document, without_texts
from service.recognition.result import Recognition
from service.sessions.idempotency import Once
from service.sessions.records import Appended, Expected, StoredUtterance
from service.sessions.store import Conflict, SessionStore
from service.sessions.tails import Tail
from service.sessions.webhooks import WebhookRow
from service.tracing import Stage, stage

# Within a process turns wait for each other; only another process can interfere. Each attempt
# labels the utterance again; ten lost in a row mean that others write to the dialogue faster than
# that, and the client must retry later.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Forecast:
    """The prediction for the utterance that would come next in a dialogue, at `index`."""

    index: int
    recognition: Recognition


@dataclass(frozen=True, slots=True)
class Taken:
    """A stored turn, and its recognition with the demonstrations of the prompt."""

    appended: Appended
    document: RecognitionDocument


@dataclass(frozen=True, slots=True)
class TurnTaker:
    """Appends labelled utterances to stored dialogues, one at a time per dialogue.

    Attributes:
        most_utterances: how many a dialogue may have.
        valences: of predictions, for summaries.
        rules: that utterances are checked against; None: there are none.
    """

    answerer: Answerer
    sessions: SessionStore
    locks: NamedLocks
    places: Places
    most_utterances: int
    valences: Valences
    rules: RuleReader | None = None

    async def take(
        self,
        tenant: str,
        dialogue_id: str,
        utterance: Utterance,
        label_space: str,
        *,
        expected: Expected | None = None,
        once: Once[StoredUtterance] | None = None,
    ) -> Taken:
        """Label an utterance in the context of the dialogue so far and append it.

        Args:
            utterance: its label and id are not stored.
            expected: the dialogue's expected version; None: any, including a new dialogue.
            once: the request's idempotency key and its response.

        Raises:
            UnsupportedLabelSpace: as the answerer raises it; nothing is stored.
            Overloaded: the queue for the engine is full; nothing is stored.
            EngineUnavailable, DatabaseUnavailable: a part is unavailable; nothing is stored.
            DialogueChanged: the dialogue has another version, or does not exist; nothing is stored.
            AlreadyAnswered: another process completed the same request first.
            IdempotencyKeyReused: another process completed another request with the key.
            DialogueFull: the dialogue has reached its limit of utterances.
            DialogueBusy: other processes kept appending first; nothing is stored.
        """
        space = await self.answerer.label_space(label_space, tenant)
        lock = self.locks.of(tenant, dialogue_id)
        with stage(Stage.ADMIT):
            await lock.acquire()
        try:
            for _ in range(_ATTEMPTS):
                with stage(Stage.STORE):
                    version = None
                    if expected is not None:
                        version = await self.sessions.version(tenant, dialogue_id)
                        if version is None or not expected.allows(version):
                            await self.sessions.answers.raise_if_answered(once)
                        expected.check(version)
                    tail = await self.sessions.tail(
                        tenant, dialogue_id, utterance.speaker, self.answerer.history_lines
                    )
                if tail.length >= self.most_utterances:
                    await self.sessions.answers.raise_if_answered(once)
                    raise DialogueFull(
                        f"dialogue {dialogue_id!r} has {tail.length} utterances "
                        f"(limit {self.most_utterances})"
                    )
                line = Line(tail.speaker_index, utterance.text, utterance.description)
                lines = (*tail.lines, line)
                async with self.places.of(Priority.INTERACTIVE, tenant):
                    with reading_dialogue(tenant, dialogue_id):
                        recognition = await self.answerer.recognize(
                            lines, space, first=tail.first, tenant=tenant
                        )
                recognized = document(recognition, self.answerer.bundle)
                webhooks = await self._webhooks_of(tail, utterance, recognized)
                try:
                    with stage(Stage.STORE), to_the_end():
                        appended = await self.sessions.append(
                            tail,
                            text=utterance.text,
                            label_space=space.name,
                            prediction=without_texts(cast(dict[str, Any], recognized)),
                            description=utterance.description,
                            start=utterance.start,
                            end=utterance.end,
                            role=utterance.role,
                            figures=figures_of(recognition.prediction, self.valences),
                            expected=version,
                            once=once,
                            webhooks=webhooks,
                        )
                    if self.rules is not None:
                        self.rules.stored(webhooks)
                    return Taken(appended, recognized)
                except Conflict:
                    await self.sessions.answers.raise_if_answered(once)
        finally:
            lock.release()
        raise DialogueBusy(f"other writers keep appending to dialogue {dialogue_id!r}")

    async def _webhooks_of(
        self, tail: Tail, utterance: Utterance, recognized: RecognitionDocument
    ) -> list[WebhookRow]:
        if self.rules is None:
            return []
        with stage(Stage.STORE):
            return await self.rules.webhooks_of(tail, utterance, recognized["emotion"])

    async def forecast(
        self, tenant: str, dialogue_id: str, speaker: str, label_space: str
    ) -> Forecast:
        """Predict the emotion of the next turn of a speaker, who may be new to the dialogue.

        It uses the dialogue as stored and does not wait for turns in progress.

        Raises:
            UnsupportedLabelSpace, ForecastNotSupported: as the answerer raises them.
            DialogueNotFound: no dialogue has this id.
            Overloaded: the queue for the engine is full.
            EngineUnavailable, DatabaseUnavailable: a part is unavailable.
        """
        space = await self.answerer.label_space(label_space, tenant)
        with stage(Stage.STORE):
            tail = await self.sessions.stored_tail(
                tenant, dialogue_id, speaker, self.answerer.history_lines
            )
        async with self.places.of(Priority.INTERACTIVE, tenant):
            with reading_dialogue(tenant, dialogue_id):
                recognition = await self.answerer.forecast(
                    tail.lines, tail.speaker_index, space, first=tail.first, tenant=tenant
                )
        return Forecast(tail.length, recognition)
