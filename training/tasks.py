"""What a model is asked to learn: prompts, and the tokens that should follow them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from service.conversation.dialogue import Demonstration, Dialogue, HistoryWindow, Line, lines_of
from service.conversation.labels import LabelSpace
from service.conversation.prompts import PredictionTemplate, SpeakerTemplate, Task, Template
from service.conversation.prompts.tokens import PromptTooLong, fit, tokenize, verbalizer_ids
from service.decoding.tokenizer import Tokenizer
from training.packing import Example, Tokens

# By the number that an example has; what each asks is said in `service.conversation.prompts`.
TASKS = ("main", "speaker", "prediction")
MAIN, SPEAKER, PREDICTION = range(len(TASKS))


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


def tasks_of(template: Template) -> tuple[str, ...]:
    """Those of `TASKS` that a template has."""
    has = {
        "main": True,
        "speaker": isinstance(template, SpeakerTemplate),
        "prediction": isinstance(template, PredictionTemplate),
    }
    return tuple(task for task in TASKS if has[task])


def with_unified_labels(
    dialogues: Iterable[Dialogue], label_space: LabelSpace
) -> tuple[Dialogue, ...]:
    """The dialogues with each label replaced by the unified one it maps to."""

    def unified(_: int, label: str | None) -> str | None:
        return None if label is None else label_space.label(label).unified

    return tuple(relabelled(dialogue, unified) for dialogue in dialogues)


def relabelled(dialogue: Dialogue, label_of: Callable[[int, str | None], str | None]) -> Dialogue:
    """The dialogue with other labels.

    Args:
        label_of: the new label of an utterance, by its place in the dialogue and the old one.
    """
    return replace(
        dialogue,
        utterances=tuple(
            replace(utterance, label=label_of(index, utterance.label))
            for index, utterance in enumerate(dialogue.utterances)
        ),
    )


@dataclass(frozen=True, slots=True)
class LabelledExample:
    """An example of a task, with what it is of.

    Attributes:
        label: the answer: a label's name, or the speaker as the prompt has it.
        index: the utterance's place in its dialogue.
        demonstrations: those the prompt shows.
    """

    example: Example
    label_space: LabelSpace
    label: str
    index: int
    demonstrations: tuple[Demonstration, ...] = ()


def main_task(
    dialogue: Dialogue,
    label_space: LabelSpace,
    settings: PromptSettings,
    demonstrations: Mapping[int, Sequence[Demonstration]],
    soft: Mapping[int, Sequence[float]] = MappingProxyType({}),
) -> list[LabelledExample]:
    """An example for each labelled utterance; one that serving would refuse has none.

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
        if example is not None and likely is not None:
            taught = replace(example.example, soft=_by_token(tokens, likely))
            example = replace(example, example=taught)
        examples.append(example)
    return [example for example in examples if example is not None]


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
        said = lines[: index + 1]
        examples.append(_fitted(said, utterance.label, label_space, settings, task="prediction"))
    return [example for example in examples if example is not None]


def speaker_task(
    dialogue: Dialogue, label_space: LabelSpace, settings: PromptSettings
) -> list[LabelledExample]:
    """An example for each labelled utterance: who says it? (Section 3.2.)

    An example that is too long is left out.

    Raises:
        ValueError: the template does not have the task, or the label space's corpus not so many
            speakers.
    """
    template = settings.template
    if not isinstance(template, SpeakerTemplate):
        raise ValueError(f"template {template.id} has no speaker task")
    lines = lines_of(dialogue.utterances, keep_integers=template.keeps_integer_speakers)
    encode = settings.tokenizer.encode
    examples = []
    for index, (utterance, line) in enumerate(zip(dialogue.utterances, lines, strict=True)):
        if utterance.label is None:
            continue
        answer = template.speaker_answer(line)
        target = _ended(settings, verbalizer_ids(template, answer, encode, template.speaker_cue))
        prompt = template.speaker(label_space, lines[settings.window.start(index) : index], line)
        segments = tokenize(prompt, encode, settings.tokenizer.begin)
        if sum(map(len, segments)) + len(target) <= settings.limit:
            example = Example(segments, target, SPEAKER)
            examples.append(LabelledExample(example, label_space, answer, index))
    return examples


def _fitted(
    lines: Sequence[Line],
    label: str,
    label_space: LabelSpace,
    settings: PromptSettings,
    demonstrations: Sequence[Demonstration] = (),
    task: Task = "main",
) -> LabelledExample | None:
    """An example of the last of a dialogue's lines; none where its prompt is too long."""
    answer = label_space.label(label)
    target = _ended(settings, _verbalizer(settings, answer.verbalizer))
    try:
        prompt = fit(
            settings.template,
            label_space,
            settings.window,
            lines,
            demonstrations,
            task=task,
            encode=settings.tokenizer.encode,
            begin=settings.tokenizer.begin,
            limit=settings.limit - len(target),
        )
    except PromptTooLong:
        return None
    example = Example(prompt.segments, target, TASKS.index(task))
    return LabelledExample(example, label_space, answer.name, len(lines) - 1, prompt.demonstrations)


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


def _ended(settings: PromptSettings, target: Tokens) -> Tokens:
    """With the tokenizer's end of text, if it has one."""
    end = settings.tokenizer.end
    return target if end is None else (*target, end)
