"""Tokenization of prompts, within the model's maximum length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.endings import (
    Starts,
    ending,
    has_more,
    longest_ending,
    word_starts,
)
from service.conversation.prompts.template import (
    PredictionTemplate,
    Prompt,
    SpeakerTemplate,
    Template,
)

Encode = Callable[[str], Sequence[int]]
"""Token ids of a text, without special tokens."""

AnyTask = Literal["main", "speaker", "prediction"]
"""What a model is asked, or taught beside it."""

# When history has to go, it goes in steps, so that the next turn still finds a cached prefix.
_DROPPED_LINES = 4

# The share of the limit that a line of history keeps once not all lines fit whole: its end is then
# the same from turn to turn, as a cached prefix must be.
_LINE_SHARE = 4

_HIGHEST_SPEAKER = 10**7 - 1  # above any that a dialogue has


class PromptTooLong(ValueError):
    """A prompt does not fit the model even without what is said."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"without any utterance a prompt has {tokens} tokens, and {limit} may be read"
        )
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
        truncated: whether it shows no more than the end of the utterance that is asked about, or,
            in a prediction, of the one before.
    """

    segments: tuple[tuple[int, ...], ...]
    history: int
    demonstrations: tuple[Demonstration, ...]
    truncated: bool

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
    task: AnyTask = "main",
    first: int = 0,
    encode: Encode,
    starts: Starts,
    begin: Sequence[int],
    limit: int,
) -> TokenizedPrompt:
    """Render and tokenize the prompt for the last of `lines`, within `limit` tokens.

    What does not fit gives way in this order: the beginnings of history lines that are longer than
    a quarter of the limit; the oldest history, a few lines at a time; the demonstrations; the
    beginning of the target's description; the beginning of its text; never the cue. Only the main
    task shows demonstrations. A prediction does not show the target, and the line before it has
    the target's place: there is nothing else to predict from.

    Args:
        lines: the dialogue, or its end from line `first` on; the last is the target.
        first: the index in the dialogue of `lines[0]`, at most the window's start.
        starts: where the tokens begin that `encode` makes.

    Raises:
        PromptTooLong: it is longer than `limit` even without the target's text.
        ValueError: the template does not have the task.
    """
    target = first + len(lines) - 1
    start = window.start(target)
    if not first <= start:
        raise ValueError(f"the history begins with line {first}, the window with line {start}")
    shown = tuple(demonstrations) if template.takes_demonstrations and task == "main" else ()
    asked = max(start, target - 1) if task == "prediction" else target

    def tokenized(lines: Sequence[Line]) -> tuple[tuple[int, ...], ...]:
        return tokenize(_rendered(template, label_space, task, lines, shown), encode, begin)

    given = [_readable(line, starts, limit) for line in lines[start - first :]]
    truncated = given[asked - start].text != lines[asked - first].text
    segments = tokenized(given)
    if _size(segments) > limit and start < asked:
        history, last = given[: asked - start], given[asked - start :]
        given = [*(_line_end(h, encode, starts, limit // _LINE_SHARE) for h in history), *last]
        segments = tokenized(given)
    while _size(segments) > limit and start < asked:
        dropped = min(_DROPPED_LINES, asked - start)
        start, given = start + dropped, given[dropped:]
        segments = tokenized(given)
    if _size(segments) > limit and shown:
        shown = ()
        segments = tokenized(given)
    if _size(segments) > limit:
        line, *unspoken = given
        line = _cut(line, lambda line: _size(tokenized([line, *unspoken])), starts, limit)
        segments, truncated = tokenized([line, *unspoken]), True
    if _size(segments) > limit:
        raise PromptTooLong(_size(segments), limit)
    return TokenizedPrompt(segments, target - start, shown, truncated)


def _size(segments: Sequence[Sequence[int]]) -> int:
    return sum(map(len, segments))


def check_fits(
    template: Template,
    label_space: LabelSpace,
    task: AnyTask,
    *,
    encode: Encode,
    begin: Sequence[int],
    limit: int,
) -> None:
    """See that a task's prompts leave room for what is said.

    Raises:
        PromptTooLong: they do not.
    """
    line = Line(0 if task == "speaker" else _HIGHEST_SPEAKER, "")
    fit(
        template,
        label_space,
        HistoryWindow(1, 1),
        [line, line],
        (),
        task=task,
        encode=encode,
        starts=word_starts,
        begin=begin,
        limit=limit,
    )


def _readable(line: Line, starts: Starts, limit: int) -> Line:
    """The line, of which a prompt can show no more: what is far too long is not looked at twice."""
    if has_more(line.text, limit, starts):
        line = replace(line, text=ending(line.text, limit, starts))
    if has_more(line.description or "", limit, starts):
        line = replace(line, description=ending(line.description or "", limit, starts))
    return line


def _line_end(line: Line, encode: Encode, starts: Starts, most: int) -> Line:
    """A line of history, of which at most so many tokens are left."""
    if len(line.text) <= most or len(encode(line.text)) <= most:
        return line
    return replace(line, text=ending(line.text, most, starts))


def _cut(line: Line, size: Callable[[Line], int], starts: Starts, limit: int) -> Line:
    """A line with the longest end of its description that fits, or else, of its text.

    Args:
        size: of the prompt with such a line, in tokens.
    """
    bare = replace(line, description=None)
    if size(bare) > limit:
        end = longest_ending(line.text, lambda t: size(replace(bare, text=t)), limit, starts)
        return replace(bare, text=end)
    seen = line.description or ""
    end = longest_ending(seen, lambda d: size(replace(line, description=d)), limit, starts)
    return replace(line, description=end)


def _rendered(
    template: Template,
    label_space: LabelSpace,
    task: AnyTask,
    lines: Sequence[Line],
    demonstrations: Sequence[Demonstration],
) -> Prompt:
    *history, target = lines
    if task == "main":
        return template.main(label_space, history, target, demonstrations)
    if task == "prediction" and isinstance(template, PredictionTemplate):
        return template.prediction(label_space, history, target)
    if task == "speaker" and isinstance(template, SpeakerTemplate):
        return template.speaker(label_space, history, target)
    raise ValueError(f"template {template.id} has no {task} task")
