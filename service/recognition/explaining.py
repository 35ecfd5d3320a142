"""Why an answer: how the probability of its label falls when a part of the prompt is left out.

The parts are the words of the line, the earlier lines of its window and the demonstrations; each is
left out alone and the rest stays in its place. This is occlusion (Li et al. 2016, section 4, arXiv
1612.08220), so parts that say the same thing hide each other: leaving out one of them changes
little.

All prompts go to the engine as one batch. The whole prompt goes first and then those that share
most of its beginning, so that a prefix cache serves all but the rest of each.
"""

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

from service.concurrency import together
from service.conversation.dialogue import Demonstration, HistoryWindow, Line
from service.conversation.few_shot import OwnLabelSpace
from service.conversation.labels import LabelSpace
from service.conversation.prediction import Prediction
from service.conversation.prompts.tokens import TokenizedPrompt
from service.demonstrations.encoder import Vector
from service.errors import UnsupportedLabelSpace
from service.priority import Priority
from service.recognition.answering import Answerer, AnswerSpace, in_labels_of, source_of
from service.recognition.dialogues import Gate
from service.recognition.pipeline import Recognizer
from service.tracing import Stage, stage

MOST_PROMPTS = 64
"""The most prompts of an explanation, the whole one included."""

# Words get at least this many of the prompts, if there are as many words.
_LEAST_FOR_WORDS = 32
# Without a line of the history, the model reads all that stands after it anew. The nearest lines
# are left out, and those further back as long as they cost no more tokens than this in all: an
# explanation then takes about three turns' time.
_LINE_TOKENS = 512
_LEAST_LINES = 3


@dataclass(frozen=True, slots=True)
class LeftOutWords:
    """One word of the line or, where there are too many, some in a row.

    Attributes:
        start, end: offsets in the text, in characters.
        drop: the probability with all parts minus that without this one.
    """

    start: int
    end: int
    drop: float


@dataclass(frozen=True, slots=True)
class LeftOutLine:
    """A line of the history; `index` is its place in the dialogue, `drop` as in `LeftOutWords`."""

    index: int
    drop: float


@dataclass(frozen=True, slots=True)
class LeftOutDemonstration:
    """A demonstration in the prompt; `drop` as in `LeftOutWords`."""

    id: str
    drop: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each part of the prompt contributes to the probability of a label.

    Attributes:
        probability: of the label, as the model alone answers now.
        words, lines, demonstrations: the highest drop first; of the lines the nearest.
        truncated: whether the model reads only the end of the line, which alone has `words`.
    """

    label: str
    probability: float
    words: tuple[LeftOutWords, ...]
    lines: tuple[LeftOutLine, ...]
    demonstrations: tuple[LeftOutDemonstration, ...]
    truncated: bool


async def explain(
    answerer: Answerer,
    lines: Sequence[Line],
    label_space: AnswerSpace,
    label: str,
    demonstrations: Sequence[Demonstration],
    places: Gate,
    *,
    first: int = 0,
    tenant: str | None = None,
) -> Explanation:
    """Explain the probability of a label for the last of `lines`.

    Args:
        lines: the target after the dialogue's last `history_lines`, or all there are.
        label_space: one that `answerer.label_space` returned.
        demonstrations: those that the prompt shows, in this order.
        places: bounds how many prompts are in flight.
        first: the index in the dialogue of `lines[0]`.
        tenant: whose caches may be used.

    Raises:
        UnsupportedLabelSpace: the label space does not have the label.
        EngineUnavailable: the label engine does not answer.
        DemonstrationsUnavailable: the encoder does not answer, which a tenant's own label space
            requires.
    """
    if label not in label_space.names:
        raise UnsupportedLabelSpace(
            f"label_space: {label_space.name!r} no longer has the label {label!r}"
        )
    recognizer, source = answerer.recognizer, source_of(label_space)
    with stage(Stage.RENDER):
        whole = recognizer.main_prompt(lines, source, demonstrations, first=first, tenant=tenant)
    text = lines[-1].text
    indexes = _near_lines(whole)
    spans, shown = _parts_of(whole, text, len(indexes))
    variants = [
        _Variant(whole.lines, whole.demonstrations, text),
        *(_without_demonstration(whole, number, text) for number in shown),
        *(_without_words(whole, span, text) for span in spans),
        *(_without_line(whole, index, text) for index in indexes),
    ]
    prompts = await _prompts(recognizer, variants, source, tenant)
    index = label_space.names.index(label)
    total, *rests = [
        answer.probabilities[index]
        for answer in await _read(answerer, variants, prompts, label_space, places, tenant)
    ]
    drops = iter([total - rest for rest in rests])
    start = first + len(lines) - len(whole.lines)
    demonstration_drops = [
        LeftOutDemonstration(whole.demonstrations[number].id, next(drops)) for number in shown
    ]
    word_drops = [LeftOutWords(*span, next(drops)) for span in spans]
    line_drops = [LeftOutLine(start + index, next(drops)) for index in indexes]
    return Explanation(
        label,
        total,
        _highest_first(word_drops),
        _highest_first(line_drops),
        _highest_first(demonstration_drops),
        whole.truncated,
    )


Span = tuple[int, int]
"""The start and the end of a part of a text, in characters."""


@dataclass(frozen=True, slots=True)
class _Variant:
    """A prompt's content.

    Attributes:
        lines: the history and the target, as far as the model reads them.
        text: the target's, as the encoder reads it.
    """

    lines: tuple[Line, ...]
    demonstrations: tuple[Demonstration, ...]
    text: str


def word_spans(text: str, most: int) -> list[Span]:
    """The words of a text, or at most `most` runs of words, of nearly equal lengths."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    count = min(len(words), most)
    ends = [len(words) * (n + 1) // count for n in range(count)]
    return [
        (words[begin][0], words[end - 1][1]) for begin, end in zip([0, *ends], ends, strict=False)
    ]


def without_span(text: str, span: Span) -> str:
    """A text without some of its words and the white space after them."""
    start, end = span
    after = text[end:].lstrip()
    return text[:start] + after if after else text[:start].rstrip()


def _near_lines(whole: TokenizedPrompt) -> list[int]:
    """The indexes of the lines of the history that are left out, the nearest first."""
    most = MOST_PROMPTS - 1 - _LEAST_FOR_WORDS
    nearest = range(whole.history - 1, -1, -1)[:most]
    # Each line is a segment of a prompt that is laid out for a prefix cache, after the first one;
    # of another the whole is read anew.
    lengths = [len(segment) for segment in whole.segments]
    laid_out = len(lengths) > whole.history + 1
    costs = [sum(lengths[1 + index if laid_out else 0 :]) for index in nearest]
    affordable = sum(total <= _LINE_TOKENS for total in accumulate(costs))
    return list(nearest[: max(affordable, _LEAST_LINES)])


def _parts_of(whole: TokenizedPrompt, text: str, lines: int) -> tuple[list[Span], list[int]]:
    """What is left out besides lines: spans of the text, and indexes of demonstrations.

    Each is in the order of the prompts that share most of their beginning with the whole one. Where
    there are too many words, several in a row are left out together.

    Args:
        lines: how many lines of the history are left out.
    """
    others = lines + len(whole.demonstrations)
    spans = word_spans(_read_of(whole, text), max(_LEAST_FOR_WORDS, MOST_PROMPTS - 1 - others))
    shown = list(range(len(whole.demonstrations)))[: MOST_PROMPTS - 1 - lines - len(spans)]
    offset = len(text) - len(_read_of(whole, text))
    return [(start + offset, end + offset) for start, end in reversed(spans)], shown[::-1]


def _read_of(whole: TokenizedPrompt, text: str) -> str:
    """The end of a text that the model reads: the text itself unless it is truncated."""
    if not whole.truncated:
        return text
    count = len(whole.lines[-1].text.split())
    starts = [match.start() for match in re.finditer(r"\S+", text)]
    return text[starts[-count] :] if count else ""


def _without_demonstration(whole: TokenizedPrompt, number: int, text: str) -> _Variant:
    shown = whole.demonstrations
    return _Variant(whole.lines, (*shown[:number], *shown[number + 1 :]), text)


def _without_words(whole: TokenizedPrompt, span: Span, text: str) -> _Variant:
    *history, target = whole.lines
    read = _read_of(whole, text)
    start, end = (place - len(text) + len(read) for place in span)
    target = replace(target, text=without_span(read, (start, end)))
    return _Variant((*history, target), whole.demonstrations, without_span(text, span))


def _without_line(whole: TokenizedPrompt, index: int, text: str) -> _Variant:
    lines = whole.lines
    return _Variant((*lines[:index], *lines[index + 1 :]), whole.demonstrations, text)


async def _prompts(
    recognizer: Recognizer, variants: Sequence[_Variant], source: LabelSpace, tenant: str | None
) -> list[TokenizedPrompt]:
    """The prompts of the variants; the event loop goes on after each, as a text may be long."""
    prompts = []
    for variant in variants:
        with stage(Stage.RENDER):
            # All of the lines, which are no more than those of the whole prompt.
            window = HistoryWindow(len(variant.lines), len(variant.lines))
            prompts.append(
                recognizer.main_prompt(
                    variant.lines, source, variant.demonstrations, window=window, tenant=tenant
                )
            )
        await asyncio.sleep(0)
    return prompts


async def _read(
    answerer: Answerer,
    variants: Sequence[_Variant],
    prompts: Sequence[TokenizedPrompt],
    label_space: AnswerSpace,
    places: Gate,
    tenant: str | None,
) -> tuple[Prediction, ...]:
    """The answers to the variants, read as one batch."""
    vectors: dict[str, Vector] = {}
    if isinstance(label_space, OwnLabelSpace):
        vectors = await _vectors(answerer, {variant.text for variant in variants})
    source = source_of(label_space)

    async def answer(variant: _Variant, prompt: TokenizedPrompt) -> Prediction:
        async with places:
            prediction = await answerer.recognizer.read_prompt(
                prompt, source, tenant=tenant, priority=Priority.BATCH
            )
        return in_labels_of(label_space, prediction, vectors.get(variant.text))

    return await together(*map(answer, variants, prompts))


async def _vectors(answerer: Answerer, texts: Collection[str]) -> dict[str, Vector]:
    if answerer.encoder is None:
        raise ValueError("tenants' own label spaces need an encoder")
    encoder = answerer.encoder
    vectors = await together(*(encoder.encode(text, Priority.BATCH) for text in texts))
    return dict(zip(texts, vectors, strict=True))


LeftOut = TypeVar("LeftOut", LeftOutWords, LeftOutLine, LeftOutDemonstration)


def _highest_first(parts: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(sorted(parts, key=lambda part: -part.drop))
