"""The actor that scores: an engine and retrieval of its own, as the service opens them."""

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from service.conversation.dialogue import Dialogue
from service.errors import EngineUnavailable, ServiceError
from service.failures import cause_of
from service.json_lines import line_of
from service.offline import DIALOGUES_AT_ONCE, scored_json
from service.recognition.answering import Answerer, answered_label_space
from service.recognition.dialogues import recognize_dialogue
from service.recognition_parts import Parts, open_parts
from service.settings import Settings
from service.version import VERSION

log = logging.getLogger(__name__)

# A dialogue is tried again so long after its engine refused it: vLLM takes a moment to notice that
# its process has died, and servers may be away for a while.
_PAUSES_S = (1.0, 5.0)
_RAYS_THREADS = "1"  # what Ray sets OMP_NUM_THREADS to, for an actor of one CPU


def open_for_scoring(
    settings: Settings, index: Path, demonstrations: bool
) -> AbstractAsyncContextManager[Parts]:
    """Open the parts of a recognizer in an actor.

    Raises:
        As `open_parts`.
    """
    return open_parts(settings, log.info, index=index, demonstrations=demonstrations)


Opener = Callable[[Settings, Path, bool], AbstractAsyncContextManager[Parts]]


@dataclass(frozen=True, slots=True)
class Task:
    """What every actor scores with.

    Attributes:
        version: of the program that asks.
        opener: opens an actor's parts; takes settings, a folder for the index, and whether prompts
            show demonstrations.
    """

    settings: Settings
    label_space: str
    demonstrations: bool
    version: str = VERSION
    opener: Opener = open_for_scoring


@dataclass(frozen=True, slots=True)
class Row:
    """A dialogue of the result.

    Attributes:
        line: of JSON.
        error: why it is not scored; None if it is.
    """

    line: str
    utterances: int
    truncated: int
    error: str | None = None


def refused(error: str) -> Row:
    """The row of what is not scored."""
    return Row(line_of({"error": error}), 0, 0, error)


class Scorer:
    """Scores dialogues with parts of its own, which end with its process."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Open the parts; takes as long as a start of the service.

        Raises:
            ValueError: the node has another version of the program, or files that cannot be used.
            ServiceError: a part does not start.
        """
        task, settings = self._task, self._task.settings
        if task.version != VERSION:
            raise ValueError(
                f"a node of the cluster has version {VERSION} of instructerc, and this is "
                f"{task.version}; install the same"
            )
        # Ray's choice would leave the encoder one core of however many.
        if os.environ.get("OMP_NUM_THREADS") == _RAYS_THREADS:
            del os.environ["OMP_NUM_THREADS"]
        index = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="demonstrations-"))
        parts = await self._stack.enter_async_context(
            task.opener(settings, Path(index), task.demonstrations)
        )
        self._engine = parts.engine
        self._answerer = Answerer(parts.recognizer, parts.derived)
        self._space = answered_label_space(
            parts.bundle, parts.label_spaces, parts.derived, task.label_space
        )
        self._places = asyncio.Semaphore(2 * settings.engine.max_sequences)
        self._dialogues = asyncio.Semaphore(DIALOGUES_AT_ONCE)
        self._watch = asyncio.create_task(self._engine.watch(_end))

    async def score(self, dialogues: Sequence[Dialogue]) -> list[Row]:
        """Score dialogues, each on its own: one that cannot be is a row with its error."""
        return list(await asyncio.gather(*map(self._row, dialogues)))

    async def close(self) -> None:
        self._watch.cancel()
        await self._stack.aclose()

    async def _row(self, dialogue: Dialogue) -> Row:
        async with self._dialogues:
            pauses = iter(_PAUSES_S)
            while True:
                try:
                    return await self._scored(dialogue)
                except EngineUnavailable as error:
                    why = str(error)
                    if (pause_s := next(pauses, None)) is None:
                        break
                    await asyncio.sleep(pause_s)
                    await self._end_without_engine()
                except ServiceError as error:
                    why = str(error)
                    break
                except Exception as error:  # of one dialogue, which must not end the others
                    why = cause_of(error)
                    break
        return refused(f"dialogue {dialogue.id!r}: {why}")

    async def _scored(self, dialogue: Dialogue) -> Row:
        recognitions = await recognize_dialogue(
            self._answerer, dialogue.utterances, self._space, self._places
        )
        return Row(
            line_of(scored_json(dialogue, recognitions, self._answerer.bundle)),
            len(recognitions),
            sum(recognition.truncated for recognition in recognitions),
        )

    async def _end_without_engine(self) -> None:
        try:
            await self._engine.check()
        except EngineUnavailable as error:
            _end(str(error))


def _end(why: str) -> None:
    """End the process, whose dialogues are then scored by another: an engine cannot be revived."""
    log.error("the actor ends: %s", why)
    os._exit(1)
