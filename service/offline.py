"""Scoring of files of dialogues, without HTTP or database."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from service.conversation.derived import load_derived_label_spaces
from service.conversation.dialogue import Dialogue
from service.conversation.labels import load_label_spaces
from service.decoding.bundle import load_bundle
from service.dialogue_files import DialogueFormatError, dialogue_to_json, read_each_dialogue
from service.files import written_whole
from service.json_lines import line_of
from service.parts import Report, open_parts
from service.recognition.answering import Answerer, answered_label_space
from service.recognition.dialogues import Reader, Space, recognize_dialogue
from service.recognition.document import document
from service.recognition.pipeline import Recognition
from service.settings import Settings
from service.side_by_side import together

# Dialogues under way at once; their utterances share the places of the engine.
_DIALOGUES_AT_ONCE = 64


async def recognize_all(
    recognizer: Reader[Space],
    dialogues: Sequence[Dialogue],
    label_space: Space,
    places: asyncio.Semaphore,
) -> AsyncGenerator[tuple[Dialogue, list[Recognition]], None]:
    """Read every utterance of many dialogues, answered in their order, with a progress bar.

    Raises:
        EngineUnavailable: the label engine does not answer.
    """
    total = sum(len(dialogue.utterances) for dialogue in dialogues)
    with tqdm(total=total, unit=" utterances", disable=None) as bar:
        for start in range(0, len(dialogues), _DIALOGUES_AT_ONCE):
            chunk = dialogues[start : start + _DIALOGUES_AT_ONCE]
            found = await together(
                *(
                    recognize_dialogue(recognizer, each.utterances, label_space, places)
                    for each in chunk
                )
            )
            for dialogue, read in zip(chunk, found, strict=True):
                bar.update(len(dialogue.utterances))
                yield dialogue, read


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of a file.

    Attributes:
        utterances: how many were scored.
        truncated: of how many of them the model read only the end.
        refused: what is wrong with the lines that are no dialogues.
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
    """Score the dialogues of `source` into `target`, a line each, in their order.

    A line of `target` is the dialogue's line with, for each utterance, what an answer of the
    service says of it; a line that is no dialogue is `error` alone. The file appears when it is
    complete.

    Raises:
        DialogueFormatError: there is no `source`, or no line of it is a dialogue.
        ServiceError: an unknown label space, or a part that fails.
        OSError: `target` cannot be written.
    """
    # Before anything starts: what is wrong with the request is said at once.
    read = list(read_each_dialogue(source))
    dialogues = [each for each in read if isinstance(each, Dialogue)]
    refused = [each for each in read if isinstance(each, DialogueFormatError)]
    if refused and not dialogues:
        raise refused[0]
    label_spaces = load_label_spaces(settings.data / "label_spaces")
    bundle = load_bundle(settings.bundle, label_spaces)
    derived = load_derived_label_spaces(settings.data / "label_spaces", label_spaces)
    space = answered_label_space(bundle, label_spaces, derived, label_space)
    counted = truncated = 0
    async with open_parts(
        settings, report, index=index, demonstrations=demonstrations, alone=True
    ) as parts:
        gc.freeze()  # or the end would look through all libraries for garbage
        places = asyncio.Semaphore(2 * settings.engine.max_sequences)
        recognized = recognize_all(Answerer(parts.recognizer, derived), dialogues, space, places)
        with written_whole(target) as file:
            async with aclosing(recognized):
                for each in read:
                    if isinstance(each, DialogueFormatError):
                        file.write(line_of({"error": str(each)}))
                        continue
                    dialogue, found = await anext(recognized)
                    line = dialogue_to_json(dialogue)
                    counted += len(found)
                    for said, recognition in zip(line["utterances"], found, strict=True):
                        truncated += recognition.truncated
                        said.update(document(recognition, bundle))
                    file.write(line_of(line))
    return Scored(counted, truncated, tuple(str(each) for each in refused))
