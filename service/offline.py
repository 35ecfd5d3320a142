"""Scoring of files of dialogues, without HTTP or database."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from service.concurrency import together
from service.conversation.derived import load_derived_label_spaces
from service.conversation.dialogue import Dialogue
from service.conversation.labels import load_label_spaces
from service.decoding.bundle import load_bundle
from service.dialogue_files import DialogueFormatError, dialogue_to_json, read_each_dialogue
from service.files import written_whole
from service.json_lines import line_of
from service.recognition.answering import Answerer, answered_label_space
from service.recognition.dialogues import Reader, Space, recognize_dialogue
from service.recognition.document import document
from service.recognition.pipeline import Recognition
from service.recognition_parts import Report, open_parts
from service.settings import Settings

# Dialogues in progress at once; their utterances share the engine's places.
_DIALOGUES_AT_ONCE = 64


async def recognize_all(
    recognizer: Reader[Space],
    dialogues: Sequence[Dialogue],
    label_space: Space,
    places: asyncio.Semaphore,
) -> AsyncGenerator[tuple[Dialogue, list[Recognition]], None]:
    """Recognize the utterances of many dialogues, yielded in order, with a progress bar.

    Raises:
        EngineUnavailable: the label engine does not respond.
    """
    total = sum(len(dialogue.utterances) for dialogue in dialogues)
    with tqdm(total=total, unit=" utterances", disable=None) as bar:
        for start in range(0, len(dialogues), _DIALOGUES_AT_ONCE):
            chunk = dialogues[start : start + _DIALOGUES_AT_ONCE]
            recognized = await together(
                *(
                    recognize_dialogue(recognizer, dialogue.utterances, label_space, places)
                    for dialogue in chunk
                )
            )
            for dialogue, recognitions in zip(chunk, recognized, strict=True):
                bar.update(len(dialogue.utterances))
                yield dialogue, recognitions


@dataclass(frozen=True, slots=True)
class Scored:
    """The outcome of scoring a file.

    Attributes:
        utterances: how many were scored.
        truncated: how many of them the model read only the end of.
        refused: the errors of lines that are not dialogues.
    """

    utterances: int
    truncated: int
    refused: tuple[str, ...]


async def score_file(
    settings: Settings,
    source: Path,
    target: Path,
    label_space: str,
    report: Report,
    index: Path,
    demonstrations: bool,
) -> Scored:
    """Score the dialogues of `source` into `target`, one per line, in order.

    A line of `target` is the dialogue's line with the service's prediction for each utterance; for
    a line that is not a dialogue it is only `error`. The file appears when it is complete.

    Raises:
        DialogueFormatError: `source` does not exist, or no line of it is a dialogue.
        ServiceError: the label space is unknown, or a part fails.
        OSError: `target` cannot be written.
    """
    # Before anything starts, so that errors in the input are reported at once.
    lines = list(read_each_dialogue(source))
    dialogues = [line for line in lines if isinstance(line, Dialogue)]
    refused = [line for line in lines if isinstance(line, DialogueFormatError)]
    if refused and not dialogues:
        raise refused[0]
    label_spaces = load_label_spaces(settings.data / "label_spaces")
    bundle = load_bundle(
        settings.bundle,
        label_spaces,
        model=settings.engine.urls is None,
        weights=settings.engine.weights is None,
    )
    derived = load_derived_label_spaces(settings.data / "label_spaces", label_spaces)
    space = answered_label_space(bundle, label_spaces, derived, label_space)
    utterances = truncated = 0
    async with open_parts(
        settings, report, index=index, demonstrations=demonstrations, alone=True
    ) as parts:
        gc.freeze()  # else the exit would search all libraries for garbage
        places = asyncio.Semaphore(2 * settings.engine.max_sequences)
        recognized = recognize_all(Answerer(parts.recognizer, derived), dialogues, space, places)
        with written_whole(target) as file:
            async with aclosing(recognized):
                for line in lines:
                    if isinstance(line, DialogueFormatError):
                        file.write(line_of({"error": str(line)}))
                        continue
                    dialogue, recognitions = await anext(recognized)
                    scored = dialogue_to_json(dialogue)
                    utterances += len(recognitions)
                    for row, recognition in zip(scored["utterances"], recognitions, strict=True):
                        truncated += recognition.truncated
                        row.update(document(recognition, bundle))
                    file.write(line_of(scored))
    return Scored(utterances, truncated, tuple(map(str, refused)))
