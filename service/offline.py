"""Scoring of files of dialogues, without HTTP or database."""

import asyncio
import gc
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from service.concurrency import together
from service.conversation.derived import load_derived_label_spaces
from service.conversation.dialogue import Dialogue
from service.conversation.labels import load_label_spaces
from service.decoding.bundle import Bundle
from service.dialogue_files import (
    DialogueFormatError,
    Reading,
    dialogue_to_json,
    read_each_dialogue,
)
from service.files import written_whole
from service.recognition.answering import Answerer, AnswerSpace, answered_label_space
from service.recognition.dialogues import Reader, Space, recognize_dialogue
from service.recognition.document import document
from service.recognition.result import Recognition
from service.recognition_parts import Report, load_served_bundle, open_parts
from service.scored_files import Output, check_output, writer
from service.settings import Settings

# Dialogues in progress at once; their utterances share the engine's places.
DIALOGUES_AT_ONCE = 64
# Of a file, no further dialogue is read while so many utterances are in progress.
_UTTERANCES_AT_ONCE = 10_000
REPORTED = 100  # the most parts of a file that are reported as not scored

Part = Dialogue | DialogueFormatError


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
    with _progress(sum(len(dialogue.utterances) for dialogue in dialogues)) as bar:
        for start in range(0, len(dialogues), DIALOGUES_AT_ONCE):
            chunk = dialogues[start : start + DIALOGUES_AT_ONCE]
            recognized = await _recognized(recognizer, chunk, label_space, places)
            for dialogue, recognitions in zip(chunk, recognized, strict=True):
                bar.update(len(dialogue.utterances))
                yield dialogue, recognitions


@dataclass(frozen=True, slots=True)
class Scored:
    """The outcome of scoring a file.

    Attributes:
        utterances: how many were scored.
        truncated: how many of them the model read only the end of.
        refusals: how many lines, rows and cues could not be read.
        refused: the errors of the first of them.
    """

    utterances: int
    truncated: int
    refusals: int
    refused: tuple[str, ...]


async def score_file(
    settings: Settings,
    source: Path,
    target: Path,
    label_space: str,
    report: Report,
    index: Path,
    demonstrations: bool,
    reading: Reading,
    output: Output,
) -> Scored:
    """Score the dialogues of `source` into `target`, in order.

    JSON lines of `target` are the dialogues with the service's prediction for each utterance; a
    part that cannot be read is a line with only `error`. The file appears when it is complete.

    A regular file is read twice, so that errors are reported before anything starts and only the
    dialogues in progress are in memory.

    Raises:
        DialogueFormatError: `source` cannot be read, or no part of it is a dialogue.
        OutputMismatch: `output` cannot hold the dialogues.
        ServiceError: the label space is unknown, or a part fails.
        OSError: `target` cannot be written.
    """
    parts_of = _reader(source, reading)
    total, refusals, refused = _surveyed(parts_of(), output)
    bundle, space = answered_space(settings, label_space)
    utterances = truncated = 0
    async with open_parts(
        settings, report, index=index, demonstrations=demonstrations, alone=True
    ) as parts:
        gc.freeze()  # else the exit would search all libraries for garbage
        answerer = Answerer(parts.recognizer, parts.derived)
        places = asyncio.Semaphore(2 * settings.engine.max_sequences)
        with written_whole(target) as file, _progress(total) as bar:
            scored_file = writer(output, file, space.names)
            for chunk in chunks(parts_of(), DIALOGUES_AT_ONCE, _UTTERANCES_AT_ONCE):
                dialogues = [part for part in chunk if isinstance(part, Dialogue)]
                recognized = iter(await _recognized(answerer, dialogues, space, places))
                for part in chunk:
                    if isinstance(part, DialogueFormatError):
                        scored_file.refuse(str(part))
                        continue
                    recognitions = next(recognized)
                    scored = scored_json(part, recognitions, bundle)
                    truncated += sum(recognition.truncated for recognition in recognitions)
                    scored_file.add(scored)
                    utterances += len(recognitions)
                    bar.update(len(recognitions))
    return Scored(utterances, truncated, refusals, refused)


def score_alone(
    settings: Settings,
    source: Path,
    target: Path,
    label_space: str,
    report: Report,
    demonstrations: bool,
    reading: Reading,
    output: Output,
) -> Scored:
    """Score a file as `score_file` does, with an index of its own: a service may be using its own.

    Raises:
        As `score_file`.
    """
    with tempfile.TemporaryDirectory(prefix="demonstrations-") as index:
        return asyncio.run(
            score_file(
                settings,
                source,
                target,
                label_space,
                report,
                Path(index),
                demonstrations,
                reading,
                output,
            )
        )


def answered_space(settings: Settings, name: str) -> tuple[Bundle, AnswerSpace]:
    """The bundle of the settings, and the label space called `name` that it answers in.

    Raises:
        BundleError, LabelSpaceError: they cannot be read.
        UnsupportedLabelSpace: there is no such label space, or the bundle does not answer in it.
    """
    label_spaces = load_label_spaces(settings.data / "label_spaces")
    bundle = load_served_bundle(settings, label_spaces)
    derived = load_derived_label_spaces(settings.data / "label_spaces", label_spaces)
    return bundle, answered_label_space(bundle, label_spaces, derived, name)


def scored_json(
    dialogue: Dialogue, recognitions: Sequence[Recognition], bundle: Bundle
) -> dict[str, Any]:
    """A dialogue's JSON object with the recognition of each utterance in it."""
    scored = dialogue_to_json(dialogue)
    for row, recognition in zip(scored["utterances"], recognitions, strict=True):
        row.update(document(recognition, bundle))
    return scored


def _reader(source: Path, reading: Reading) -> Callable[[], Iterable[Part]]:
    """Reads the file at each call; a pipe, which can be read only once, is held in memory."""
    if source.is_file():
        return partial(read_each_dialogue, source, reading)
    held = list(read_each_dialogue(source, reading))
    return lambda: held


def _surveyed(parts: Iterable[Part], output: Output) -> tuple[int, int, tuple[str, ...]]:
    """How many utterances there are, how many parts cannot be read, and the first errors."""
    dialogues = utterances = refusals = 0
    refused: list[DialogueFormatError] = []
    for part in parts:
        if isinstance(part, Dialogue):
            check_output(output, part, dialogues)
            dialogues += 1
            utterances += len(part.utterances)
        else:
            refusals += 1
            refused += [part] * (len(refused) < REPORTED)
    if refused and not dialogues:
        raise refused[0]
    return utterances, refusals, tuple(map(str, refused))


def chunks(
    parts: Iterable[Part], most_dialogues: int, most_utterances: int
) -> Iterator[list[Part]]:
    """Divide parts into chunks; one ends as soon as it has as many dialogues or utterances."""
    chunk: list[Part] = []
    utterances = 0
    for part in parts:
        chunk.append(part)
        utterances += len(part.utterances) if isinstance(part, Dialogue) else 0
        if len(chunk) == most_dialogues or utterances >= most_utterances:
            yield chunk
            chunk, utterances = [], 0
    if chunk:
        yield chunk


async def _recognized(
    recognizer: Reader[Space],
    dialogues: Sequence[Dialogue],
    label_space: Space,
    places: asyncio.Semaphore,
) -> tuple[list[Recognition], ...]:
    return await together(
        *(
            recognize_dialogue(recognizer, dialogue.utterances, label_space, places)
            for dialogue in dialogues
        )
    )


def _progress(total: int) -> "tqdm[NoReturn]":
    return tqdm(total=total, unit=" utterances", disable=None)
