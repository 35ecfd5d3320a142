"""Scores files of dialogues without HTTP or database, through the parts that serve."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.bundle import load_bundle
from service.dialogue_files import dialogue_to_json, read_dialogues
from service.files import written_whole
from service.json_lines import line_of
from service.parts import Report, open_parts
from service.recognition.dialogues import recognize_dialogue
from service.recognition.document import document
from service.recognition.pipeline import Recognition, Recognizer, supported_label_space
from service.settings import Settings

# Dialogues under way at once; their utterances share the places of the engine.
_DIALOGUES_AT_ONCE = 64


async def recognize_all(
    recognizer: Recognizer,
    dialogues: Sequence[Dialogue],
    label_space: LabelSpace,
    places: asyncio.Semaphore,
) -> AsyncIterator[tuple[Dialogue, list[Recognition]]]:
    """Read every utterance of many dialogues, answered in their order, with a progress bar.

    Raises:
        EngineUnavailable: the label engine does not answer.
    """
    total = sum(len(dialogue.utterances) for dialogue in dialogues)
    with tqdm(total=total, unit=" utterances", disable=None) as bar:
        for start in range(0, len(dialogues), _DIALOGUES_AT_ONCE):
            chunk = dialogues[start : start + _DIALOGUES_AT_ONCE]
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(
                            recognize_dialogue(recognizer, each.utterances, label_space, places)
                        )
                        for each in chunk
                    ]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
            for dialogue, task in zip(chunk, tasks, strict=True):
                bar.update(len(dialogue.utterances))
                yield dialogue, task.result()


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of a file.

    Attributes:
        utterances: how many were scored.
        truncated: of how many of them the model read only the end.
    """

    utterances: int
    truncated: int


async def score_file(
    settings: Settings,
    source: Path,
    target: Path,
    label_space: str,
    report: Report,
    index: Path,
    demonstrations: bool,
) -> Scored:
    """Score the dialogues of `source` into `target`, a line each, in their order.

    A line of `target` is the dialogue's line with, for each utterance, what an answer of the
    service says of it. The file appears when it is complete.

    Raises:
        DialogueFormatError: there is no `source`, or it is not in the interchange format.
        ServiceError: an unknown label space, or a part that fails.
        OSError: `target` cannot be written.
    """
    # Before anything starts: what is wrong with the request is said at once.
    dialogues = list(read_dialogues(source))
    label_spaces = load_label_spaces(settings.data / "label_spaces")
    bundle = load_bundle(settings.bundle, label_spaces)
    space = supported_label_space(bundle, label_spaces, label_space)
    counted = truncated = 0
    async with open_parts(settings, report, index=index, demonstrations=demonstrations) as parts:
        places = asyncio.Semaphore(2 * settings.engine.max_sequences)
        with written_whole(target) as file:
            async for dialogue, found in recognize_all(parts.recognizer, dialogues, space, places):
                line = dialogue_to_json(dialogue)
                counted += len(found)
                for said, recognition in zip(line["utterances"], found, strict=True):
                    truncated += recognition.truncated
                    said.update(document(recognition, bundle))
                file.write(line_of(line))
    return Scored(counted, truncated)
