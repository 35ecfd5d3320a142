"""Recognition of whole dialogues, for batches, offline scoring and evaluation."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar
from uuid import uuid4

from service.concurrency import first_failure
from service.conversation.dialogue import Line, Utterance, lines_of
from service.decoding.bundle import Bundle
from service.decoding.engine import reading_dialogue
from service.priority import Priority
from service.recognition.result import Recognition

# Starting a thousand tasks at once would block the event loop for 30 ms.
_BEGUN_AT_ONCE = 32

# Bounds concurrency: a semaphore, or a place among those that conversations share.
Gate = AbstractAsyncContextManager[None]

Space = TypeVar("Space", contravariant=True)


class Reader(Protocol[Space]):
    """Reads utterances in label spaces: a `Recognizer` in its bundle's, an `Answerer` in all."""

    @property
    def bundle(self) -> Bundle: ...

    @property
    def history_lines(self) -> int: ...

    async def recognize(
        self,
        lines: Sequence[Line],
        label_space: Space,
        *,
        first: int = 0,
        tenant: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Recognition: ...

    async def forecast(
        self,
        history: Sequence[Line],
        speaker: int,
        label_space: Space,
        *,
        first: int = 0,
        tenant: str | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Recognition: ...


async def recognize_dialogue(
    recognizer: Reader[Space],
    utterances: Sequence[Utterance],
    label_space: Space,
    places: Gate,
    tenant: str | None = None,
) -> list[Recognition]:
    """Read the emotion of every utterance, given those before it, never those after.

    The utterances go to the engine in order and concurrently, so that each finds its predecessor's
    prefix in the cache.

    Args:
        places: bounds how many utterances are in flight, over all dialogues that share it.
        tenant: whose demonstrations may be used besides shared ones.

    Raises:
        EngineUnavailable: the label engine does not answer.
    """
    lines = _lines(recognizer, utterances)

    async def recognize_at(index: int) -> Recognition:
        first = max(0, index - recognizer.history_lines)
        return await recognizer.recognize(
            lines[first : index + 1],
            label_space,
            first=first,
            tenant=tenant,
            priority=Priority.BATCH,
        )

    with reading_dialogue(tenant, uuid4().hex):
        return await _together(recognize_at, range(len(lines)), places)


async def forecast_dialogue(
    recognizer: Reader[Space],
    utterances: Sequence[Utterance],
    label_space: Space,
    places: Gate,
) -> list[Recognition]:
    """Forecast every utterance but the first from those before it and from its speaker.

    Args:
        places: as in `recognize_dialogue`.

    Raises:
        ForecastNotSupported: the bundle was not trained on the prediction task.
        EngineUnavailable: as `recognize_dialogue`.
    """
    lines = _lines(recognizer, utterances)

    async def forecast_at(index: int) -> Recognition:
        first = max(0, index - recognizer.history_lines)
        return await recognizer.forecast(
            lines[first:index],
            lines[index].speaker,
            label_space,
            first=first,
            priority=Priority.BATCH,
        )

    with reading_dialogue(None, uuid4().hex):
        return await _together(forecast_at, range(1, len(lines)), places)


def _lines(recognizer: Reader[Space], utterances: Sequence[Utterance]) -> list[Line]:
    template = recognizer.bundle.prompt_template
    return lines_of(utterances, keep_integers=template.keeps_integer_speakers)


async def _together(
    read_at: Callable[[int], Awaitable[Recognition]], indexes: Iterable[int], places: Gate
) -> list[Recognition]:
    async def placed(index: int) -> Recognition:
        async with places:
            return await read_at(index)

    with first_failure():
        async with asyncio.TaskGroup() as group:
            tasks = []
            for index in indexes:
                tasks.append(group.create_task(placed(index)))
                if len(tasks) % _BEGUN_AT_ONCE == 0:
                    await asyncio.sleep(0)
    return [task.result() for task in tasks]
