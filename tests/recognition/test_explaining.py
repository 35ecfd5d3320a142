"""What an explanation leaves out, and how much the probability of the label falls by it."""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from service.concurrency import first_failure
from service.conversation.derived import derive
from service.conversation.dialogue import Demonstration, Line
from service.conversation.labels import LabelSpace
from service.decoding.bundle import Bundle, Window
from service.decoding.engine import Reading
from service.decoding.tokenizer import Tokenizer
from service.errors import EngineUnavailable, UnsupportedLabelSpace
from service.priority import Priority
from service.recognition.answering import Answerer
from service.recognition.explaining import MOST_PROMPTS, explain, without_span, word_spans
from service.recognition.opening import open_recognizer
from tests.clock import until
from tests.recognition.conftest import BEGIN, END, Words

LINES = (
    Line(0, "Did the parcel arrive?"),
    Line(1, "It arrived broken."),
    Line(0, "So  we won\nnothing, great!"),
)
SHOWN = (
    Demonstration("e1", "meld", "anger", "Who took it?"),
    Demonstration("e2", "meld", "joy", "Found it!"),
    Demonstration("e3", "meld", "sadness", "All gone."),
)
# How many nats each of these words adds to anger.
ANGERING = {"great!": 2.0, "nothing,": 0.5, "broken.": 1.0, "took": 0.25, "So": -0.5}


@dataclass
class Listening:
    """A label engine whose anger depends on single words of the prompt.

    Attributes:
        failing: a word without which it fails.
        held: until it is set, nothing but the whole prompt is answered.
        at_once: the most prompts that were under way together.
    """

    words: Words
    failing: str | None = None
    held: asyncio.Event | None = None
    prompts: list[str] = field(default_factory=list)
    priorities: list[Priority] = field(default_factory=list)
    salts: list[str | None] = field(default_factory=list)
    under_way: int = 0
    at_once: int = 0

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        text = self.words.decode(prompt)
        self.prompts.append(text)
        self.priorities.append(priority)
        self.salts.append(salt)
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        try:
            await asyncio.sleep(0)
            if self.held is not None and len(self.prompts) > 1:
                await self.held.wait()
        finally:
            self.under_way -= 1
        if self.failing is not None and self.failing not in text:
            raise EngineUnavailable("it fails")
        verbalizers = [self.words.decode([each]).strip() for each in candidates]
        scores = [angry(text) if each == "angry" else 0.0 for each in verbalizers]
        total = math.log(sum(map(math.exp, scores)))
        return Reading(tuple(score - total for score in scores), cached_tokens=0)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def angry(text: str) -> float:
    """The same whether the prompt shows a line once or, at its end, again."""
    return sum(nats for word, nats in ANGERING.items() if word in text.split())


def probability(without: str = "") -> float:
    """Of anger among MELD's seven labels, without some of the words."""
    odds = math.exp(sum(nats for word, nats in ANGERING.items() if word not in without.split()))
    return odds / (odds + 6)


@pytest.fixture
def engine(words: Words) -> Listening:
    return Listening(words)


@pytest.fixture
def answerer(
    bundle: Bundle, spaces: Mapping[str, LabelSpace], words: Words, engine: Listening
) -> Answerer:
    tokenizer = Tokenizer(words.encode, (BEGIN,), END)
    longer = bundle.model_copy(update={"max_tokens": 600})
    return Answerer(open_recognizer(longer, tokenizer, spaces, engine, None), {})


def gate(count: int = 100) -> asyncio.Semaphore:
    return asyncio.Semaphore(count)


async def test_a_drop_is_the_fall_of_the_labels_probability(
    answerer: Answerer, spaces: Mapping[str, LabelSpace]
) -> None:
    """Of each word, line and demonstration, the highest first; what says nothing has none."""
    explanation = await explain(answerer, LINES, spaces["meld"], "anger", SHOWN, gate(), first=6)

    text, whole = LINES[-1].text, probability()
    assert explanation.probability == pytest.approx(whole)
    words = [text[each.start : each.end] for each in explanation.words]
    assert words == ["great!", "nothing,", "won", "we", "So"]
    assert [each.drop for each in explanation.words] == pytest.approx(
        [whole - probability(word) for word in words]
    )
    assert explanation.words[-1].drop < 0
    assert [each.index for each in explanation.lines] == [7, 6]
    assert [each.drop for each in explanation.lines] == pytest.approx(
        [whole - probability("broken."), 0]
    )
    assert [each.drop for each in explanation.demonstrations] == [
        pytest.approx(whole - probability("took")),
        pytest.approx(0),
        pytest.approx(0),
    ]
    assert explanation.demonstrations[0].id == "e1"


async def test_each_prompt_is_the_whole_one_without_one_part(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace]
) -> None:
    """The other lines and demonstrations keep their order and their speakers."""
    await explain(answerer, LINES, spaces["meld"], "anger", SHOWN, gate())

    whole, *others = engine.prompts
    parts = [
        *("So ", " we", " won", " nothing,", " great!"),
        *("\n0: Did the parcel arrive?", "\n1: It arrived broken."),
        *("\nWho took it? = angry", "\nFound it! = joyful", "\nAll gone. = sad"),
    ]
    assert sorted(others) == sorted(whole.replace(part, "") for part in parts)


async def test_prompts_that_share_most_of_the_whole_one_come_first(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace]
) -> None:
    """So that what the cache holds of it is still there; all are read as a batch of the tenant."""
    await explain(answerer, LINES, spaces["meld"], "anger", SHOWN, gate(3), tenant="acme")

    whole, *others = engine.prompts
    shared = [
        next(n for n, (a, b) in enumerate(zip(whole, other, strict=False)) if a != b)
        for other in others
    ]
    assert shared == sorted(shared, reverse=True)
    assert set(engine.priorities) == {Priority.BATCH}
    assert set(engine.salts) == {"acme"}
    assert engine.at_once == 3


@pytest.mark.parametrize("count", [31, 58, 59, 200])
async def test_words_are_grouped_where_there_are_too_many(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace], count: int
) -> None:
    """Each word is in one group of nearly equal size; lines and demonstrations stand alone."""
    text = " ".join(f"w{n}" for n in range(count))
    lines = (*LINES[:2], Line(0, text))

    explanation = await explain(answerer, lines, spaces["meld"], "anger", SHOWN, gate())

    groups = sorted((each.start, each.end) for each in explanation.words)
    assert " ".join(text[start:end] for start, end in groups) == text
    sizes = {len(text[start:end].split()) for start, end in groups}
    assert max(sizes) - min(sizes) <= 1
    assert len(groups) == min(count, MOST_PROMPTS - 1 - 5)
    assert (len(explanation.lines), len(explanation.demonstrations)) == (2, 3)
    assert len(engine.prompts) == 1 + len(groups) + 5 <= MOST_PROMPTS


@pytest.mark.parametrize(("count", "least"), [(1, 4), (40, 3), (300, 3)])
async def test_lines_far_back_are_left_out_where_they_cost_too_much(
    words: Words,
    engine: Listening,
    spaces: Mapping[str, LabelSpace],
    bundle: Bundle,
    count: int,
    least: int,
) -> None:
    """Without a line, all after it is read anew: 512 tokens in all, but three lines at least."""
    wide = bundle.model_copy(update={"window": Window(lowest=90, highest=90), "max_tokens": 4000})
    tokenizer = Tokenizer(words.encode, (BEGIN,), END)
    answerer = Answerer(open_recognizer(wide, tokenizer, spaces, engine, None), {})
    lines = [Line(0, f"Line {n}.") for n in range(80)]
    lines.append(Line(0, " ".join(f"w{n}" for n in range(count))))

    explanation = await explain(answerer, lines, spaces["meld"], "anger", SHOWN, gate())

    whole = engine.prompts[0]
    listed: list[int] = []
    cost = 0
    for n in range(79, -1, -1):
        cost += len(words.encode(whole[whole.index(f"\n0: Line {n}.") :]))
        if cost > 512 and len(listed) >= 3:
            break
        listed.append(n)
    assert sorted(each.index for each in explanation.lines) == listed[::-1]
    assert least <= len(listed) < 20
    assert len(explanation.words) == min(count, MOST_PROMPTS - 1 - len(listed) - 3)
    assert len(engine.prompts) == 1 + len(explanation.words) + len(listed) + 3


async def test_of_a_line_that_is_cut_only_what_is_read_is_explained(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace]
) -> None:
    """Offsets are those in the whole text."""
    text = " ".join(f"w{n:03}" for n in range(900))

    explanation = await explain(answerer, [Line(0, text)], spaces["meld"], "anger", (), gate())

    assert explanation.truncated
    groups = sorted((each.start, each.end) for each in explanation.words)
    read = text[groups[0][0] :]
    assert groups[-1][1] == len(text)
    assert f"\n0: {read}\n" in engine.prompts[0]
    for start, end in groups:
        rest = without_span(text, (start, end))[groups[0][0] :]
        assert any(f": {rest}\n" in prompt for prompt in engine.prompts)


async def test_one_word_alone_leaves_nothing(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace]
) -> None:
    explanation = await explain(answerer, [Line(0, "great!")], spaces["meld"], "anger", (), gate())

    assert [(each.start, each.end) for each in explanation.words] == [(0, 6)]
    assert not explanation.lines
    assert not explanation.demonstrations
    assert explanation.words[0].drop == pytest.approx(explanation.probability - 1 / 7)


async def test_a_derived_label_is_explained_by_its_sums(
    answerer: Answerer, spaces: Mapping[str, LabelSpace]
) -> None:
    meld = spaces["meld"]
    rest = dict.fromkeys((name for name in meld.names if name not in ("anger", "disgust")), 1.0)
    derived = derive("cross", "", meld, {"cross": {"anger": 1, "disgust": 1}, "other": rest})

    explanation = await explain(answerer, LINES, derived, "cross", SHOWN, gate())

    def cross(without: str = "") -> float:
        return probability(without) + (1 - probability(without)) / 6

    assert explanation.probability == pytest.approx(cross())
    assert explanation.words[0].drop == pytest.approx(cross() - cross("great!"))


async def test_an_end_cancels_every_prompt(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace]
) -> None:
    """Places are free again, and nothing more is asked."""
    engine.held = asyncio.Event()
    places = gate(4)
    task = asyncio.create_task(explain(answerer, LINES, spaces["meld"], "anger", SHOWN, places))
    await until(lambda: engine.under_way == 4)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    asked = len(engine.prompts)
    await asyncio.sleep(0)
    assert (engine.under_way, len(engine.prompts)) == (0, asked)
    assert not places.locked()


async def test_one_prompt_that_fails_fails_the_explanation(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace]
) -> None:
    engine.failing = "nothing,"

    with pytest.raises(EngineUnavailable), first_failure():
        await explain(answerer, LINES, spaces["meld"], "anger", SHOWN, gate())


async def test_a_label_that_is_gone_is_refused(
    answerer: Answerer, engine: Listening, spaces: Mapping[str, LabelSpace]
) -> None:
    with pytest.raises(UnsupportedLabelSpace, match="no longer has the label 'irate'"):
        await explain(answerer, LINES, spaces["meld"], "irate", SHOWN, gate())

    assert not engine.prompts


@pytest.mark.parametrize("text", ["one", "  two  words ", "a\tb\n\nc d ", "", "  "])
@pytest.mark.parametrize("most", [1, 2, 64])
def test_spans_are_words_and_leave_the_others(text: str, most: int) -> None:
    spans = word_spans(text, most)

    words = re.findall(r"\S+", text)
    assert " ".join(text[start:end] for start, end in spans).split() == words
    assert len(spans) == min(most, len(words))
    for span in spans:
        left_out = text[span[0] : span[1]].split()
        rest = without_span(text, span).split()
        assert sorted([*rest, *left_out]) == sorted(words)
