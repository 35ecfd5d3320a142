"""Whole dialogues at once, for batches, offline scoring and evaluation."""

import asyncio
from collections.abc import Sequence

from service.conversation.dialogue import Utterance, lines_of
from service.conversation.labels import LabelSpace
from service.decoding.engine import Priority
from service.errors import UtteranceTooLong
from service.recognition.pipeline import Recognition, Recognizer


async def recognize_dialogue(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    label_space: LabelSpace,
    places: asyncio.Semaphore,
) -> list[Recognition]:
    """Read the emotion of every utterance in the light of those before it, never of those after.

    The utterances go to the engine in their order and together, so that each finds its
    predecessor's prefix in the cache.

    Args:
        places: bounds how many utterances are under way at once, over all dialogues that share it.

    Raises:
        UtteranceTooLong: an utterance is longer than the model reads; the message names it.
        EngineUnavailable: the label engine does not answer.
    """
    template = recognizer.bundle.prompt_template
    lines = lines_of(utterances, keep_integers=template.keeps_integer_speakers)

    async def one(index: int) -> Recognition:
        first = max(0, index - recognizer.history_lines)
        async with places:
            try:
                return await recognizer.recognize(
                    lines[first : index + 1], label_space, first=first, priority=Priority.BATCH
                )
            except UtteranceTooLong as error:
                raise UtteranceTooLong(f"utterances[{index}]: {error}") from None

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index)) for index in range(len(lines))]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
