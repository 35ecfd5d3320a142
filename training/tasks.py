"""What a model is asked to learn: prompts, and the tokens that should follow them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.conversation.dialogue import Demonstration, Dialogue, HistoryWindow, lines_of
from service.conversation.labels import LabelSpace
from service.conversation.prompts import Template
from service.conversation.prompts.tokens import PromptTooLong, fit, verbalizer_ids
from service.decoding.tokenizer import Tokenizer
from training.packing import Example


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """How prompts are rendered and tokenized; training and serving agree on all of it.

    Attributes:
        limit: the longest prompt with its target, in tokens.
    """

    template: Template
    window: HistoryWindow
    tokenizer: Tokenizer
    limit: int


def with_unified_labels(
    dialogues: Iterable[Dialogue], label_space: LabelSpace
) -> tuple[Dialogue, ...]:
    """The dialogues with each label replaced by the unified one it maps to."""
    return tuple(
        replace(
            dialogue,
            utterances=tuple(
                u if u.label is None else replace(u, label=label_space.label(u.label).unified)
                for u in dialogue.utterances
            ),
        )
        for dialogue in dialogues
    )


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """An example of the main task, with what evaluation asks about it."""

    example: Example
    label_space: LabelSpace
    label: str
    demonstrations: int


def main_task(
    dialogue: Dialogue,
    label_space: LabelSpace,
    settings: PromptSettings,
    demonstrations: Mapping[int, Sequence[Demonstration]],
) -> list[LabelledExample]:
    """An example for each labelled utterance; one that serving would refuse has none.

    Args:
        demonstrations: by utterance index; an utterance without any may be left out.
    """
    lines = lines_of(dialogue.utterances, keep_integers=settings.template.keeps_integer_speakers)
    examples = []
    for index, utterance in enumerate(dialogue.utterances):
        if utterance.label is None:
            continue
        label = label_space.label(utterance.label)
        target = verbalizer_ids(settings.template, label.verbalizer, settings.tokenizer.encode)
        if settings.tokenizer.end is not None:
            target = (*target, settings.tokenizer.end)
        try:
            prompt = fit(
                settings.template,
                label_space,
                settings.window,
                lines[: index + 1],
                demonstrations.get(index, ()),
                encode=settings.tokenizer.encode,
                begin=settings.tokenizer.begin,
                limit=settings.limit - len(target),
            )
        except PromptTooLong:
            continue
        examples.append(
            LabelledExample(
                Example(prompt.segments, target),
                label_space,
                label.name,
                len(prompt.demonstrations),
            )
        )
    return examples
