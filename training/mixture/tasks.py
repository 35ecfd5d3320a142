"""Training examples: prompts, and the tokens that should follow them."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import cast

from service.conversation.dialogue import Demonstration, Dialogue, HistoryWindow, Line, lines_of
from service.conversation.labels import LabelSpace
from service.conversation.prompts import TEMPLATES, SpeakerTemplate, Template
from service.conversation.prompts.tokens import (
    AnyTask,
    PromptTooLong,
    check_fits,
    fit,
    verbalizer_ids,
)
from service.decoding.bundle import Bundle
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from training.recipe import Recipe, RecipeError, Tasks

# An example has a task's place in this tuple; `service.conversation.prompts` asks them.
TASKS = cast(tuple[AnyTask, ...], tuple(Tasks.model_fields))
MAIN, SPEAKER, PREDICTION = map(TASKS.index, ("main", "speaker", "prediction"))

Tokens = tuple[int, ...]

_LAST_SPEAKER = Line(99, "")  # whose number is as long as any


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """The settings by which prompts are rendered and tokenized, the same in training and serving.

    Attributes:
        limit: the longest prompt with its target, in tokens.
    """

    template: Template
    window: HistoryWindow
    tokenizer: Tokenizer
    limit: int


def prompt_settings(recipe: Recipe, base: Path) -> PromptSettings:
    """How a recipe renders prompts for the base in a folder."""
    return PromptSettings(
        TEMPLATES[recipe.template],
        HistoryWindow(recipe.window.lowest, recipe.window.highest),
        load_tokenizer(base),
        recipe.max_tokens,
    )


def settings_of_bundle(bundle: Bundle, folder: Path) -> PromptSettings:
    """How a trained model is asked; `folder` is its bundle's."""
    return PromptSettings(
        bundle.prompt_template, bundle.history_window, load_tokenizer(folder), bundle.max_tokens
    )


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt in tokenized segments and the tokens that should follow it.

    Attributes:
        task: the number of the task it is of (`TASKS`).
        soft: tokens that the target may begin with, and how much each counts; empty: the target's
            own first token, once.
    """

    segments: tuple[Tokens, ...]
    target: Tokens
    task: int = 0
    soft: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """An example of a task, with what it is of.

    Attributes:
        label: the answer: a label's name, or the speaker as the prompt has it.
        index: the utterance's place in its dialogue.
        demonstrations: those the prompt shows.
        truncated: whether of what it is about it shows only the end.
    """

    example: Example
    label_space: LabelSpace
    label: str
    index: int
    demonstrations: tuple[Demonstration, ...] = ()
    truncated: bool = False


def main_task(
    dialogue: Dialogue,
    label_space: LabelSpace,
    settings: PromptSettings,
    demonstrations: Mapping[int, Sequence[Demonstration]],
    soft: Mapping[int, Sequence[float]] = MappingProxyType({}),
) -> list[LabelledExample]:
    """An example for each labelled utterance, with the prompt that serving asks with.

    Args:
        demonstrations: by utterance index; an utterance without any may be left out.
        soft: by utterance index, how much each label counts, in the label space's order; where
            there is none, its own label does, once.
    """
    lines = lines_of(dialogue.utterances, keep_integers=settings.template.keeps_integer_speakers)
    tokens = first_tokens(settings, label_space) if soft else ()
    examples = []
    for index, utterance in enumerate(dialogue.utterances):
        if utterance.label is None:
            continue
        shown, likely = demonstrations.get(index, ()), soft.get(index)
        example = _fitted(lines[: index + 1], utterance.label, label_space, settings, shown)
        if likely is not None:
            taught = replace(example.example, soft=_by_token(tokens, likely))
            example = replace(example, example=taught)
        examples.append(example)
    return examples


def prediction_task(
    dialogue: Dialogue, label_space: LabelSpace, settings: PromptSettings
) -> list[LabelledExample]:
    """An example for each labelled utterance but the first, which nothing goes before.

    InstructERC's emotion prediction: the emotion of an utterance from what was said before it and
    from who speaks next (arXiv 2309.11911, section 3.3).

    Raises:
        ValueError: the template does not have the task.
    """
    lines = lines_of(dialogue.utterances, keep_integers=settings.template.keeps_integer_speakers)
    examples = []
    for index, utterance in enumerate(dialogue.utterances):
        if utterance.label is None or settings.window.start(index) == index:
            continue
        so_far = lines[: index + 1]
        examples.append(_fitted(so_far, utterance.label, label_space, settings, task="prediction"))
    return examples


def speaker_task(
    dialogue: Dialogue, label_space: LabelSpace, settings: PromptSettings
) -> list[LabelledExample]:
    """An example for each labelled utterance: who says it? (Section 3.2.)

    Raises:
        ValueError: the template does not have the task, or the label space's corpus not so many
            speakers.
    """
    template = settings.template
    if not isinstance(template, SpeakerTemplate):
        raise ValueError(f"template {template.id} has no speaker task")
    lines = lines_of(dialogue.utterances, keep_integers=template.keeps_integer_speakers)
    examples = []
    for index, (utterance, line) in enumerate(zip(dialogue.utterances, lines, strict=True)):
        if utterance.label is None:
            continue
        answer = template.speaker_answer(line)
        target = _ended(settings, _speaker(settings, template, answer))
        so_far = lines[: index + 1]
        examples.append(_example(so_far, target, answer, label_space, settings, task="speaker"))
    return examples


def check_room(
    label_space: LabelSpace, tasks: Collection[AnyTask], settings: PromptSettings
) -> None:
    """Check that the prompts of tasks have room for an utterance and for the longest answer.

    Raises:
        RecipeError: they have none.
        ValueError: the template does not have a task.
    """
    template = settings.template
    for task in tasks:
        targets = [_verbalizer(settings, verbalizer) for verbalizer in label_space.verbalizers]
        if task == "speaker" and isinstance(template, SpeakerTemplate):
            targets = [_speaker(settings, template, template.speaker_answer(_LAST_SPEAKER))]
        try:
            check_fits(
                template,
                label_space,
                task,
                encode=settings.tokenizer.encode,
                begin=settings.tokenizer.begin,
                limit=settings.limit - max(len(_ended(settings, target)) for target in targets),
            )
        except PromptTooLong as error:
            raise RecipeError(
                f"max_tokens: {settings.limit} is too low for the task {task} of "
                f"{label_space.name}: {error}"
            ) from None


def _fitted(
    lines: Sequence[Line],
    label: str,
    label_space: LabelSpace,
    settings: PromptSettings,
    demonstrations: Sequence[Demonstration] = (),
    task: AnyTask = "main",
) -> LabelledExample:
    """An example of the last of a dialogue's lines."""
    answer = label_space.label(label)
    target = _ended(settings, _verbalizer(settings, answer.verbalizer))
    return _example(lines, target, answer.name, label_space, settings, demonstrations, task)


def _example(
    lines: Sequence[Line],
    target: Tokens,
    answer: str,
    label_space: LabelSpace,
    settings: PromptSettings,
    demonstrations: Sequence[Demonstration] = (),
    task: AnyTask = "main",
) -> LabelledExample:
    prompt = fit(
        settings.template,
        label_space,
        settings.window,
        lines,
        demonstrations,
        task=task,
        encode=settings.tokenizer.encode,
        starts=settings.tokenizer.starts,
        begin=settings.tokenizer.begin,
        limit=settings.limit - len(target),
    )
    return LabelledExample(
        Example(prompt.segments, target, TASKS.index(task)),
        label_space,
        answer,
        len(lines) - 1,
        prompt.demonstrations,
        prompt.truncated,
    )


def first_tokens(settings: PromptSettings, label_space: LabelSpace) -> list[int]:
    """The tokens that the labels' verbalizers begin with, in the label space's order."""
    return [_verbalizer(settings, verbalizer)[0] for verbalizer in label_space.verbalizers]


def _by_token(tokens: Sequence[int], shares: Sequence[float]) -> tuple[tuple[int, float], ...]:
    """The labels' shares by their tokens, which several may have in common."""
    sums: dict[int, float] = defaultdict(float)
    for token, share in zip(tokens, shares, strict=True):
        sums[token] += share
    return tuple(sums.items())


def _verbalizer(settings: PromptSettings, verbalizer: str) -> Tokens:
    return verbalizer_ids(settings.template, verbalizer, settings.tokenizer.encode)


def _speaker(settings: PromptSettings, template: SpeakerTemplate, answer: str) -> Tokens:
    return verbalizer_ids(template, answer, settings.tokenizer.encode, template.speaker_cue)


def _ended(settings: PromptSettings, target: Tokens) -> Tokens:
    """With the tokenizer's end of text, if it has one."""
    end = settings.tokenizer.end
    return target if end is None else (*target, end)
