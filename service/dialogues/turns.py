"""One turn of a stored dialogue: predict the emotion, then store both in one write.

The answer leaves when utterance and prediction are on disk; a turn that fails leaves no trace. The
turn after the last one can be forecast; nothing is stored of that.
"""

from dataclasses import dataclass
from typing import Any, cast

from service.admission.patience import to_the_end
from service.admission.places import Places
from service.conversation.dialogue import Line
from service.dialogues.locks import NamedLocks
from service.errors import DialogueBusy, DialogueFull
from service.priority import Priority
from service.recognition.answering import Answerer
from service.recognition.document import RecognitionDocument, document, without_texts
from service.recognition.pipeline import Recognition
from service.sessions.answers import Once
from service.sessions.records import Appended, StoredUtterance
from service.sessions.store import Conflict, SessionStore
from service.sessions.versions import Expected
from service.tracing.stages import Stage, stage

# Within a process turns wait for each other; only another process can get in between. Each attempt
# labels the utterance anew, and ten lost in a row mean that the dialogue is written to faster than
# that: its clients are told to come back.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was predicted of the utterance that would be a dialogue's next one, at `index`."""

    index: int
    recognition: Recognition


@dataclass(frozen=True, slots=True)
class Taken:
    """A turn that is stored, and what was found for it, with what the prompt showed."""

    appended: Appended
    document: RecognitionDocument


@dataclass(frozen=True, slots=True)
class TurnTaker:
    """Appends labelled utterances to stored dialogues, one at a time in each dialogue.

    Attributes:
        most_utterances: how many a dialogue may have.
    """

    answerer: Answerer
    sessions: SessionStore
    locks: NamedLocks
    places: Places
    most_utterances: int

    async def take(
        self,
        tenant: str,
        dialogue_id: str,
        speaker: str,
        text: str,
        label_space: str,
        description: str | None = None,
        *,
        expected: Expected | None = None,
        once: Once[StoredUtterance] | None = None,
    ) -> Taken:
        """Label an utterance in the light of the dialogue so far and append it.

        Args:
            description: what the scene looks like, where that is known.
            expected: what the dialogue must be; None: anything, or nothing yet.
            once: the request's key and what it will be answered.

        Raises:
            UnsupportedLabelSpace: as the answerer says; nothing is stored.
            Overloaded: too many wait for the engine; nothing is stored.
            EngineUnavailable, DatabaseUnavailable: a part does not answer; nothing is stored.
            DialogueChanged: it is another than expected, or not there; nothing is stored.
            AlreadyAnswered: another process was asked the same and was faster.
            IdempotencyKeyReused: another process has answered another request with the key.
            DialogueFull: it has as many utterances as it may.
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
                            await self.sessions.raise_if_answered(once)
                        expected.check(version)
                    tail = await self.sessions.tail(
                        tenant, dialogue_id, speaker, self.answerer.history_lines
                    )
                if tail.length >= self.most_utterances:
                    await self.sessions.raise_if_answered(once)
                    raise DialogueFull(
                        f"dialogue {dialogue_id!r} has {tail.length} utterances "
                        f"(limit {self.most_utterances})"
                    )
                lines = (*tail.lines, Line(tail.speaker_index, text, description))
                async with self.places.of(Priority.INTERACTIVE, tenant):
                    recognition = await self.answerer.recognize(
                        lines, space, first=tail.first, tenant=tenant
                    )
                found = document(recognition, self.answerer.bundle)
                try:
                    with stage(Stage.STORE), to_the_end():
                        appended = await self.sessions.append(
                            tail,
                            text=text,
                            label_space=space.name,
                            prediction=without_texts(cast(dict[str, Any], found)),
                            description=description,
                            expected=version,
                            once=once,
                        )
                        return Taken(appended, found)
                except Conflict:
                    await self.sessions.raise_if_answered(once)
        finally:
            lock.release()
        raise DialogueBusy(f"other writers keep appending to dialogue {dialogue_id!r}")

    async def forecast(
        self, tenant: str, dialogue_id: str, speaker: str, label_space: str
    ) -> Forecast:
        """Predict the emotion of what a speaker, of the dialogue so far or new to it, says next.

        It goes by the dialogue as it is stored and waits for no turn under way.

        Raises:
            UnsupportedLabelSpace, ForecastNotSupported: as the answerer says.
            DialogueNotFound: no dialogue has this id; there is nothing to go by.
            Overloaded: too many wait for the engine.
            EngineUnavailable, DatabaseUnavailable: a part does not answer.
        """
        space = await self.answerer.label_space(label_space, tenant)
        with stage(Stage.STORE):
            tail = await self.sessions.stored_tail(
                tenant, dialogue_id, speaker, self.answerer.history_lines
            )
        async with self.places.of(Priority.INTERACTIVE, tenant):
            found = await self.answerer.forecast(
                tail.lines, tail.speaker_index, space, first=tail.first, tenant=tenant
            )
        return Forecast(tail.length, found)
