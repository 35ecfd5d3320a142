"""Writes the prompts of a file of dialogues, for training or inspection elsewhere."""

from collections.abc import Iterator
from pathlib import Path

from service.conversation.dialogue import HistoryWindow, Line, lines_of
from service.conversation.labels import LabelSpace
from service.conversation.prompts import (
    TEMPLATES,
    InstructercV1,
    PredictionTemplate,
    Prompt,
    SpeakerTemplate,
    Template,
)
from service.conversation.prompts.tokens import AnyTask
from service.dialogue_files import DialogueFormatError, read_dialogues
from service.json_lines import write_json_lines
from training.recipe import tasks_of


def write_prompts(
    source: Path,
    target: Path,
    template: Template,
    task: AnyTask,
    label_space: LabelSpace,
    window: HistoryWindow,
) -> int:
    """Write one `{"input": ..., "target": ...}` row an utterance, in the order of the input.

    A first turn, which nothing goes before, has no prediction but in the published prompts.

    `target` is the verbalizer of the utterance's label, null where it has none; for the speaker
    task, the speaker. Returns how many rows.

    Raises:
        DialogueFormatError: `source` breaks the interchange format, holds an unknown label, or has
            a speaker that the task does not know; the message names the dialogue and utterance.
        ValueError: the template does not have the task, or the window has no line for it.
    """
    if task not in tasks_of(template):
        raise ValueError(f"template {template.id} has no {task} task")
    if task == "prediction" and not window.highest:
        raise ValueError("the task prediction needs a window of at least 1 line")
    return write_json_lines(_rows(source, template, task, label_space, window), target)


def _rows(
    source: Path, template: Template, task: AnyTask, label_space: LabelSpace, window: HistoryWindow
) -> Iterator[dict[str, str | None]]:
    for dialogue in read_dialogues(source):
        lines = lines_of(dialogue.utterances, keep_integers=template.keeps_integer_speakers)
        for index, utterance in enumerate(dialogue.utterances):
            history = lines[window.start(index) : index]
            if task == "prediction" and not history and not _asks_first_turns(template):
                continue
            where = f"{source}: dialogue {dialogue.id!r}, utterances[{index}]"
            try:
                answer = _target(template, task, label_space, utterance.label, lines[index])
                prompt = _prompt(template, task, label_space, history, lines[index])
            except ValueError as error:
                raise DialogueFormatError(f"{where}: {error}") from None
            yield {"input": prompt.text, "target": answer}


def known_template(name: str) -> Template:
    """The template called `name`.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in TEMPLATES:
        raise ValueError(f"unknown template {name!r}; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def _asks_first_turns(template: Template) -> bool:
    """Whether the prediction of a first turn is the main prompt, as published."""
    return isinstance(template, InstructercV1)


def _prompt(
    template: Template, task: AnyTask, label_space: LabelSpace, history: list[Line], target: Line
) -> Prompt:
    if task == "speaker" and isinstance(template, SpeakerTemplate):
        return template.speaker(label_space, history, target)
    if task == "prediction" and isinstance(template, PredictionTemplate):
        return template.prediction(label_space, history, target)
    return template.main(label_space, history, target)


def _target(
    template: Template, task: AnyTask, label_space: LabelSpace, label: str | None, line: Line
) -> str | None:
    if task == "speaker" and isinstance(template, SpeakerTemplate):
        return template.speaker_answer(line)
    return None if label is None else label_space.label(label).verbalizer
