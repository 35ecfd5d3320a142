"""Recognition of whole dialogues, for batches, offline scoring and evaluation."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from service.conversation.dialogue import Line, Utterance, lines_of
from service.decoding.bundle import Bundle
from service.decoding.engine import Priority
from service.recognition.pipeline import Recognition
from service.side_by_side import first_failure

# A thousand at once would keep the event loop for 30 ms.
_BEGUN_AT_ONCE = 32

# Lets so many in at once: a semaphore, or a place among those that conversations share.
Gate = AbstractAsyncContextManager[None]

Space = TypeVar("Space", contravariant=True)


class Reader(Protocol[Space]):
    """What reads utterances in label spaces: a `Recognizer` in those of its bundle, an `Answerer`
    in others too.
    """

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
    """Read the emotion of every utterance in the light of those before it, never of those after.

    The utterances go to the engine in their order and together, so that each finds its
    predecessor's prefix in the cache.

    Args:
        places: bounds how many utterances are under way at once, over all dialogues that share it.
        tenant: whose demonstrations may be shown beside those that are shared.

    Raises:
        EngineUnavailable: the label engine does not answer.
    """
    lines = _lines(recognizer, utterances)

    async def one(index: int) -> Recognition:
        first = max(0, index - recognizer.history_lines)
        return await recognizer.recognize(
            lines[first : index + 1],
            label_space,
            first=first,
            tenant=tenant,
            priority=Priority.BATCH,
        )

    return await _together(one, range(len(lines)), places)


async def forecast_dialogue(
    recognizer: Reader[Space],
    utterances: Sequence[Utterance],
    label_space: Space,
    places: Gate,
) -> list[Recognition]:
    """Forecast every utterance but the first from those before it and from who says it.

    Args:
        places: as in `recognize_dialogue`.

    Raises:
        ForecastNotSupported: the bundle was not trained on the prediction task.
        EngineUnavailable: as `recognize_dialogue`.
    """
    lines = _lines(recognizer, utterances)

    async def one(index: int) -> Recognition:
        first = max(0, index - recognizer.history_lines)
        return await recognizer.forecast(
            lines[first:index],
            lines[index].speaker,
            label_space,
            first=first,
            priority=Priority.BATCH,
        )

    return await _together(one, range(1, len(lines)), places)


def _lines(recognizer: Reader[Space], utterances: Sequence[Utterance]) -> list[Line]:
    template = recognizer.bundle.prompt_template
    return lines_of(utterances, keep_integers=template.keeps_integer_speakers)


async def _together(
    one: Callable[[int], Awaitable[Recognition]], indexes: Iterable[int], places: Gate
) -> list[Recognition]:
    async def placed(index: int) -> Recognition:
        async with places:
            return await one(index)

    with first_failure():
        async with asyncio.TaskGroup() as group:
            tasks = []
            for index in indexes:
                tasks.append(group.create_task(placed(index)))
                if len(tasks) % _BEGUN_AT_ONCE == 0:
                    await asyncio.sleep(0)
    return [task.result() for task in tasks]
