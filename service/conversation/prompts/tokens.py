"""Tokenization of prompts, within the model's maximum length.

A text that is too long is truncated to its end. The end begins at a token, so that few tokens
change, and never inside a character of several code points: an accent keeps its letter, and an
emoji its parts.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.labels import LabelSpace
from service.conversation.prompts.protocol import (
    PredictionTemplate,
    Prompt,
    SpeakerTemplate,
    Template,
    one_line,
)

Encode = Callable[[str], Sequence[int]]
"""Maps a text to its token ids, without special tokens."""

Starts = Callable[[str], Sequence[int]]
"""Maps a text to the offsets, in characters, at which its tokens begin; ascending."""

AnyTask = Literal["main", "speaker", "prediction"]
"""A task that a model serves, or that training adds."""

# History is dropped in steps, so that the next turn still finds a cached prefix.
_DROPPED_LINES = 4

# When not all lines fit whole, each line of history keeps at most `limit // _LINE_SHARE` tokens:
# its end is then the same from turn to turn, as a cached prefix must be.
_LINE_SHARE = 4

_HIGHEST_SPEAKER = 10**7 - 1  # above any in a dialogue


class PromptTooLong(ValueError):
    """A prompt does not fit the model even without any utterance."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"a prompt without any utterance has {tokens} tokens, but the limit is {limit}"
        )
        self.tokens = tokens
        self.limit = limit


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """A prompt as token ids.

    Attributes:
        segments: a tuple of token ids for each of the prompt's segments; the first begins with the
            tokenizer's BOS, if it has one.
        history: the number of history lines in it.
        demonstrations: those in it.
        lines: the history and the target, as far as they are in it.
        truncated: whether it has only the end of the target, or, in a prediction, of the line
            before the target.
    """

    segments: tuple[tuple[int, ...], ...]
    history: int
    demonstrations: tuple[Demonstration, ...]
    lines: tuple[Line, ...]
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
    """The tokens of the verbalizer after the template's cue, at least one.

    Args:
        cue: another of the template's cues; None: its main one.

    Raises:
        ValueError: the tokenizer merges cue and verbalizer, so that no token begins the verbalizer,
            or has no token for it.
    """
    if template.before_verbalizer is None:
        tokens = tuple(encode(verbalizer))
        if not tokens:
            raise ValueError(f"{verbalizer!r} has no token")
        return tokens
    cue = template.cue if cue is None else cue
    head = tuple(encode(cue))
    tokens = tuple(encode(cue + template.before_verbalizer + verbalizer))
    if tokens[: len(head)] != head or len(tokens) == len(head):
        raise ValueError(f"{verbalizer!r} does not begin a token after {cue!r}")
    return tokens[len(head) :]


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

    A prompt that is too long is cut in this order: the beginnings of history lines longer than a
    quarter of the limit; the oldest history, a few lines at a time; the demonstrations; the
    beginning of the target's description; the beginning of its text; never the cue. Only the main
    task shows demonstrations. A prediction does not show the target, and the line before it takes
    the target's place: there is nothing else to predict from.

    Args:
        lines: the dialogue, or its end from line `first` on; the last is the target.
        first: the index in the dialogue of `lines[0]`, at most the window's start.
        starts: the offsets of the tokens that `encode` makes.

    Raises:
        PromptTooLong: the prompt is longer than `limit` even without the target's text.
        ValueError: the template does not have the task.
    """
    target = first + len(lines) - 1
    start = window.start(target)
    if not first <= start:
        raise ValueError(f"the history begins with line {first}, the window with line {start}")
    shown = tuple(demonstrations) if template.takes_demonstrations and task == "main" else ()
    anchor = max(start, target - 1) if task == "prediction" else target

    def tokenized(lines: Sequence[Line]) -> tuple[tuple[int, ...], ...]:
        return tokenize(_rendered(template, label_space, task, lines, shown), encode, begin)

    window_lines = [_readable(line, starts, limit) for line in lines[start - first :]]
    truncated = window_lines[anchor - start].text != lines[anchor - first].text
    segments = tokenized(window_lines)
    if _size(segments) > limit and start < anchor:
        history, last = window_lines[: anchor - start], window_lines[anchor - start :]
        window_lines = [
            *(_line_end(h, encode, starts, limit // _LINE_SHARE) for h in history),
            *last,
        ]
        segments = tokenized(window_lines)
    while _size(segments) > limit and start < anchor:
        dropped = min(_DROPPED_LINES, anchor - start)
        start, window_lines = start + dropped, window_lines[dropped:]
        segments = tokenized(window_lines)
    if _size(segments) > limit and shown:
        shown = ()
        segments = tokenized(window_lines)
    if _size(segments) > limit:
        line, *unspoken = window_lines
        line = _cut(line, lambda line: _size(tokenized([line, *unspoken])), starts, limit)
        window_lines = [line, *unspoken]
        segments, truncated = tokenized(window_lines), True
    if _size(segments) > limit:
        raise PromptTooLong(_size(segments), limit)
    return TokenizedPrompt(segments, target - start, shown, tuple(window_lines), truncated)


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
    """Check that a task's prompts leave room for utterances.

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
    """Cut a line to `limit` tokens, so that the rest of a very long one is tokenized only once."""
    if has_more(line.text, limit, starts):
        line = replace(line, text=ending(line.text, limit, starts))
    if has_more(line.description or "", limit, starts):
        line = replace(line, description=ending(line.description or "", limit, starts))
    return line


def _line_end(line: Line, encode: Encode, starts: Starts, limit: int) -> Line:
    """Cut a line of history to its last `limit` tokens."""
    if len(line.text) <= limit or len(encode(line.text)) <= limit:
        return line
    return replace(line, text=ending(line.text, limit, starts))


def _cut(line: Line, size: Callable[[Line], int], starts: Starts, limit: int) -> Line:
    """Cut a line to the longest end of its description that fits, or else, of its text.

    Args:
        size: maps a line to the length of the prompt with it, in tokens.
    """
    bare = replace(line, description=None)
    if size(bare) > limit:
        end = longest_ending(line.text, lambda t: size(replace(bare, text=t)), limit, starts)
        return replace(bare, text=end)
    description = line.description or ""
    end = longest_ending(description, lambda d: size(replace(line, description=d)), limit, starts)
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


# Nearly every text has fewer characters a token. Only so many are tokenized, so that the end of a
# very long text costs no more than that of a long one.
CHARACTERS_PER_TOKEN = 8

_JOINER = "\u200d"
_PARTS_OF_EMOJI = (*range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080))  # skin tones, tags
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)  # two make a flag
_LONGEST_CHARACTER = 32  # in code points; a longer sequence is not one character


def word_starts(text: str) -> Sequence[int]:
    """Starts for a tokenizer without offsets: each word begins a token."""
    return [word.start() for word in re.finditer(r"\S+", text)]


def ending(text: str, tokens: int, starts: Starts) -> str:
    """The end of a text, on one line: at most `tokens` tokens, and eight characters for each."""
    if tokens <= 0:
        return ""
    line = one_line(text)
    start = max(0, len(line) - CHARACTERS_PER_TOKEN * tokens)
    offsets = starts(line[start:])
    if len(offsets) > tokens:
        # A character may be several tokens; they stay together.
        start += next((s for s in offsets[-tokens:] if s > offsets[-tokens - 1]), len(line) - start)
    return line[_between_characters(line, start) :].lstrip()


def has_more(text: str, tokens: int, starts: Starts) -> bool:
    """Whether a text certainly has more than `tokens` tokens, judging by its end alone."""
    most = CHARACTERS_PER_TOKEN * tokens
    return len(text) > most and len(starts(one_line(text)[-most:])) > tokens


def longest_ending(text: str, length: Callable[[str], int], limit: int, starts: Starts) -> str:
    """The longest end of a text with which a prompt fits; "" if none does.

    Args:
        length: maps an end to the length of the prompt with it, in tokens.
    """
    least = length("")
    tokens = limit - least
    while tokens > 0:
        end = ending(text, tokens, starts)
        total = length(end)
        if total <= limit:
            return end
        # A prompt may show a text twice, and a cut word may have more tokens.
        tokens -= max(1, (total - limit) * tokens // (total - least))
    return ""


def _between_characters(text: str, place: int) -> int:
    """The first place from `place` on at which a character begins."""
    if 0 < place < len(text) and _flag_letters_before(text, place) % 2:
        place += ord(text[place]) in _FLAG_LETTERS
    for later in range(place, min(place + _LONGEST_CHARACTER, len(text))):
        if later == 0 or not (_continues(text[later]) or text[later - 1] == _JOINER):
            return later
    return place


def _flag_letters_before(text: str, place: int) -> int:
    before = text[:place]
    return len(before) - len(before.rstrip("".join(map(chr, _FLAG_LETTERS))))


def _continues(character: str) -> bool:
    return (
        unicodedata.category(character).startswith("M")  # accents, variation selectors
        or character == _JOINER
        or ord(character) in _PARTS_OF_EMOJI
    )
