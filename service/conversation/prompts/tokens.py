"""From a prompt's segments to the model's token ids, and into the model's length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.template import PredictionTemplate, Prompt, Task, Template

Encode = Callable[[str], Sequence[int]]
"""Token ids of a text, without special tokens."""

# When history has to go, it goes in steps, so that the next turn still finds a cached prefix.
_DROPPED_LINES = 4


class PromptTooLong(ValueError):
    """The target alone, or the line before it that a prediction needs, does not fit the model."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"its prompt has {tokens} tokens, the model reads {limit}")
        self.tokens = tokens
        self.limit = limit


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """What goes to the model.

    Attributes:
        segments: token ids, a tuple for each of the prompt's segments; the first begins with the
            tokenizer's BOS, if it has one.
        history: how many history lines it shows.
        demonstrations: those it shows.
    """

    segments: tuple[tuple[int, ...], ...]
    history: int
    demonstrations: tuple[Demonstration, ...]

    @property
    def ids(self) -> list[int]:
        return [token for segment in self.segments for token in segment]


def tokenize(prompt: Prompt, encode: Encode, begin: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The token ids of each segment; `begin` (the tokenizer's BOS, if any) opens the first."""
    first, *others = prompt.segments
    return ((*begin, *encode(first)), *(tuple(encode(segment)) for segment in others))


def verbalizer_ids(
    template: Template, verbalizer: str, encode: Encode, cue: str | None = None
) -> tuple[int, ...]:
    """The tokens with which the verbalizer follows the template's cue, at least one.

    Args:
        cue: another of the template's cues.

    Raises:
        ValueError: the tokenizer merges cue and verbalizer, so that no token begins the verbalizer,
            or has none for it.
    """
    if template.before_verbalizer is None:
        alone = tuple(encode(verbalizer))
        if not alone:
            raise ValueError(f"{verbalizer!r} has no token")
        return alone
    cue = template.cue if cue is None else cue
    head = tuple(encode(cue))
    whole = tuple(encode(cue + template.before_verbalizer + verbalizer))
    if whole[: len(head)] != head or len(whole) == len(head):
        raise ValueError(f"{verbalizer!r} does not begin a token after {cue!r}")
    return whole[len(head) :]


def fit(
    template: Template,
    label_space: LabelSpace,
    window: HistoryWindow,
    lines: Sequence[Line],
    demonstrations: Sequence[Demonstration],
    *,
    task: Task = "main",
    first: int = 0,
    encode: Encode,
    begin: Sequence[int],
    limit: int,
) -> TokenizedPrompt:
    """Render and tokenize the prompt for the last of `lines`, within `limit` tokens.

    What does not fit is dropped: the oldest history first, a few lines at a time, then the
    demonstrations; never the target or the cue. A prediction shows no demonstrations, and the line
    before its target is never dropped: there is nothing else to predict from.

    Args:
        lines: the dialogue, or its end from line `first` on; the last is the target, whose text a
            prediction does not show.
        first: the index in the dialogue of `lines[0]`, at most the window's start.

    Raises:
        PromptTooLong: what is never dropped is longer than `limit`.
        ValueError: the template does not have the task.
    """
    target = first + len(lines) - 1
    start = window.start(target)
    if not first <= start:
        raise ValueError(f"the history begins with line {first}, the window with line {start}")
    predicting = task == "prediction"
    shown = tuple(demonstrations) if template.takes_demonstrations and not predicting else ()
    last_start = max(start, target - 1) if predicting else target

    while True:
        prompt = _rendered(template, label_space, task, lines[start - first :], shown)
        segments = tokenize(prompt, encode, begin)
        length = sum(map(len, segments))
        if length <= limit:
            return TokenizedPrompt(segments, target - start, shown)
        if start < last_start:
            start = min(last_start, start + _DROPPED_LINES)
        elif shown:
            shown = ()
        else:
            raise PromptTooLong(length, limit)


def _rendered(
    template: Template,
    label_space: LabelSpace,
    task: Task,
    lines: Sequence[Line],
    demonstrations: Sequence[Demonstration],
) -> Prompt:
    *history, target = lines
    if task == "main":
        return template.main(label_space, history, target, demonstrations)
    if not isinstance(template, PredictionTemplate):
        raise ValueError(f"template {template.id} has no {task} task")
    return template.prediction(label_space, history, target)
