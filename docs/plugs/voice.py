"""Emotions in a voice loop: posts each final transcript, and passes on what the service answers.

`EmotionStage` has the shape of Pipecat's frame processors, and a handler for LiveKit's sessions; it
needs only `pip install instructerc`.

Pipecat: hold the stage in a class derived from `pipecat.processors.frame_processor.FrameProcessor`,
whose `process_frame` calls `super().process_frame` and then the stage's; the transcripts are
`pipecat.frames.frames.TranscriptionFrame`, as `InterimTranscriptionFrame` is another class. Derive
`EmotionFrame` from `pipecat.frames.frames.DataFrame` if later processors expect frames of Pipecat.

LiveKit: `session.on("user_input_transcribed", stage.transcribed)` for a
`livekit.agents.AgentSession`; the event has `transcript`, `is_final` and `speaker_id`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from instructerc import AsyncClient, ClientError
from instructerc.models import UtteranceOut

log = logging.getLogger(__name__)

# Transcripts that wait for the service; people do not speak that far ahead of it.
_WAITING = 64


class TranscriptionFrame(Protocol):
    """Pipecat's frame of a final transcript."""

    text: str
    user_id: str


class TranscribedEvent(Protocol):
    """LiveKit's event `user_input_transcribed`."""

    transcript: str
    is_final: bool
    speaker_id: str | None


@dataclass(frozen=True, slots=True)
class EmotionFrame:
    """The emotion of a transcript that passed before."""

    utterance: UtteranceOut


PushFrame = Callable[[Any, Any], Awaitable[None]]


class EmotionStage:
    """Posts final transcripts to one dialogue, in order, while the loop goes on.

    async with EmotionStage(client, "call-42", push_frame) as stage:
        await stage.process_frame(frame, direction)
    """

    def __init__(
        self,
        client: AsyncClient,
        dialogue_id: str,
        push_frame: PushFrame,
        *,
        transcripts: type | tuple[type, ...],
        label_space: str = "unified",
    ) -> None:
        """Begin with the block.

        Args:
            push_frame: passes a frame on in a direction, as `FrameProcessor.push_frame` does.
            transcripts: the classes of final transcripts.
        """
        self._client = client
        self._dialogue_id = dialogue_id
        self._push_frame = push_frame
        self._transcripts = transcripts
        self._label_space = label_space
        self._waiting: asyncio.Queue[tuple[str, str, Any]] = asyncio.Queue(_WAITING)
        self._posting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._posting = asyncio.create_task(self._post())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Post what waits, unless the block fails."""
        if error is None:
            await self._waiting.join()
        if self._posting is not None:
            self._posting.cancel()
            with suppress(asyncio.CancelledError):
                await self._posting

    async def process_frame(self, frame: Any, direction: Any) -> None:
        """Pass every frame on at once; the emotion of a transcript follows it."""
        await self._push_frame(frame, direction)
        if isinstance(frame, self._transcripts):
            self._add(frame.user_id, frame.text, direction)

    def transcribed(self, event: TranscribedEvent) -> None:
        """Handle LiveKit's event, whose handlers do not wait."""
        if event.is_final:
            self._add(event.speaker_id or "user", event.transcript, None)

    def _add(self, speaker: str, text: str, direction: Any) -> None:
        if not text.strip():
            return
        try:
            self._waiting.put_nowait((speaker, text, direction))
        except asyncio.QueueFull:
            log.warning("%d transcripts wait already: one is left out", _WAITING)

    async def _post(self) -> None:
        while True:
            speaker, text, direction = await self._waiting.get()
            try:
                utterance = await self._client.add_utterance(
                    self._dialogue_id, speaker=speaker, text=text, label_space=self._label_space
                )
                await self._push_frame(EmotionFrame(utterance), direction)
            except ClientError as error:  # the conversation goes on without
                log.warning("a transcript has no emotion: %s", error)
            finally:
                self._waiting.task_done()
