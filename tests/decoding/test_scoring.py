"""How a label's probability is read from a model's next-token probabilities."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from service.conversation.labels import Label, LabelSpace
from service.conversation.prompts import TEMPLATES, Template
from service.conversation.prompts.default_v2 import V2
from service.decoding.engine import Reading
from service.decoding.scoring import plan_reading, score_labels
from service.decoding.tokenizer import Tokenizer
from service.errors import EngineUnavailable
from service.priority import Priority

PROMPT = (101, 5, 6, 7)

# Wordpieces of "joyful", "joyous", "joy" and "calm", and the end of a target.
JOY, FUL, OUS, CALM, SEP, OTHER = 6569, 3993, 3560, 5475, 102, 1999

# What may come after the prompt, and after what came: each row is a distribution.
TABLE = {
    (): {JOY: 0.5, CALM: 0.3, OTHER: 0.2},
    (JOY,): {FUL: 0.4, OUS: 0.1, SEP: 0.3, OTHER: 0.2},
    (JOY, FUL): {SEP: 0.9, OTHER: 0.1},
    (JOY, OUS): {SEP: 0.5, FUL: 0.5},
    (CALM,): {SEP: 0.6, OTHER: 0.4},
}


def space_of(*verbalizers: str) -> LabelSpace:
    return LabelSpace(
        "gladness", "Gladness", tuple(Label(f"label-{v}", v, "joyful") for v in verbalizers)
    )


@dataclass
class TableEngine:
    """A language model that is an explicit table of probabilities behind one prompt."""

    table: Mapping[tuple[int, ...], Mapping[int, float]]
    asked: list[tuple[tuple[int, ...], tuple[int, ...], Priority]] = field(default_factory=list)
    fails: bool = False

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        assert tuple(prompt[: len(PROMPT)]) == PROMPT
        continuation = tuple(prompt[len(PROMPT) :])
        self.asked.append((continuation, tuple(candidates), priority))
        await asyncio.sleep(0)
        if self.fails and continuation:
            raise EngineUnavailable("scripted")
        row = self.table[continuation]
        return Reading(
            tuple(math.log(row[token]) if token in row else -math.inf for token in candidates),
            cached_tokens=len(continuation) or 3,
        )

    async def check(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("name", ["meld", "emorynlp", "iemocap", "dailydialog", "unified"])
def test_shipped_label_spaces_take_one_question(
    name: str, template: Template, spaces: Mapping[str, LabelSpace], tokenizer: Tokenizer
) -> None:
    """Their first wordpieces differ, so a single forward pass says everything."""
    reading = plan_reading(spaces[name], template, tokenizer.encode, tokenizer.end)
    firsts = tuple(tokenizer.encode(v)[0] for v in spaces[name].verbalizers)

    assert reading.questions == {(): firsts}
    assert reading.paths == tuple((((), token),) for token in firsts)
    assert reading.extra_tokens == 0


def test_verbalizers_that_begin_alike_are_scored_whole(tokenizer: Tokenizer) -> None:
    """Every wordpiece and the end token; a shared beginning is asked about once."""
    space = space_of("joyful", "joyous", "joy", "calm")

    reading = plan_reading(space, V2(), tokenizer.encode, tokenizer.end)

    assert reading.paths == (
        (((), JOY), ((JOY,), FUL), ((JOY, FUL), SEP)),
        (((), JOY), ((JOY,), OUS), ((JOY, OUS), SEP)),
        (((), JOY), ((JOY,), SEP)),
        (((), CALM), ((CALM,), SEP)),
    )
    assert reading.questions == {
        (): (JOY, CALM),
        (JOY,): (FUL, OUS, SEP),
        (JOY, FUL): (SEP,),
        (JOY, OUS): (SEP,),
        (CALM,): (SEP,),
    }
    assert next(iter(reading.questions)) == ()
    assert reading.extra_tokens == 2


def test_without_an_end_token_a_verbalizer_ends_with_its_last_piece(tokenizer: Tokenizer) -> None:
    """Allowed while none begins another."""
    reading = plan_reading(space_of("joyful", "joyous"), V2(), tokenizer.encode, None)

    assert reading.paths == ((((), JOY), ((JOY,), FUL)), (((), JOY), ((JOY,), OUS)))


def test_without_an_end_token_a_verbalizer_that_begins_another_is_refused(
    tokenizer: Tokenizer,
) -> None:
    """ "joy" would get all that "joyful" gets; the error names both."""
    with pytest.raises(
        ValueError, match="gladness: the tokens of 'joyful' begin with all those of 'joy'"
    ):
        plan_reading(space_of("joyful", "joy"), V2(), tokenizer.encode, None)


def test_verbalizers_with_the_same_tokens_are_refused(tokenizer: Tokenizer) -> None:
    """A lower-casing tokenizer cannot tell "Joy" from "joy", end token or not."""
    with pytest.raises(ValueError, match="the tokens of 'joy' begin with all those of 'Joy'"):
        plan_reading(space_of("Joy", "joy"), V2(), tokenizer.encode, tokenizer.end)


async def test_score_of_a_whole_verbalizer_is_the_product_along_it(tokenizer: Tokenizer) -> None:
    """p(joyful, end) = p(joy) * p(ful | joy) * p(end | joyful), and so for each."""
    engine = TableEngine(TABLE)
    space = space_of("joyful", "joyous", "joy", "calm")
    reading = plan_reading(space, V2(), tokenizer.encode, tokenizer.end)

    scores = await score_labels(engine, reading, PROMPT, Priority.BATCH)

    expected = [0.5 * 0.4 * 0.9, 0.5 * 0.1 * 0.5, 0.5 * 0.3, 0.3 * 0.6]
    probabilities = [math.exp(score) for score in scores.log_probabilities]
    assert probabilities == pytest.approx(expected)
    assert sum(probabilities) <= 1
    assert {priority for _, _, priority in engine.asked} == {Priority.BATCH}


async def test_end_token_tells_a_word_from_its_own_beginning(tokenizer: Tokenizer) -> None:
    """ "joy" does not profit from what the model gives to "joyful"."""
    table = {(): {JOY: 1.0}, (JOY,): {FUL: 0.99, SEP: 0.01}, (JOY, FUL): {SEP: 1.0}}
    reading = plan_reading(space_of("joy", "joyful"), V2(), tokenizer.encode, tokenizer.end)

    scores = await score_labels(TableEngine(table), reading, PROMPT, Priority.INTERACTIVE)

    assert [math.exp(s) for s in scores.log_probabilities] == pytest.approx([0.01, 0.99])


async def test_impossible_verbalizer_has_probability_zero(tokenizer: Tokenizer) -> None:
    """Minus infinity stays minus infinity along a path."""
    table = {**TABLE, (JOY,): {FUL: 1.0}}
    reading = plan_reading(
        space_of("joyful", "joyous", "joy", "calm"), V2(), tokenizer.encode, tokenizer.end
    )

    scores = await score_labels(TableEngine(table), reading, PROMPT, Priority.INTERACTIVE)

    assert scores.log_probabilities[1:3] == (-math.inf, -math.inf)


async def test_first_pieces_are_read_in_the_label_spaces_order(tokenizer: Tokenizer) -> None:
    """One question, and the model's probabilities as they are."""
    engine = TableEngine(TABLE)
    reading = plan_reading(space_of("calm", "joyful"), V2(), tokenizer.encode, tokenizer.end)

    scores = await score_labels(engine, reading, PROMPT, Priority.INTERACTIVE)

    assert scores.log_probabilities == pytest.approx((math.log(0.3), math.log(0.5)))
    assert engine.asked == [((), (CALM, JOY), Priority.INTERACTIVE)]


@pytest.mark.parametrize("verbalizers", [("calm", "joyful"), ("joy", "joyful")])
async def test_cached_tokens_are_those_of_the_prompt_itself(
    verbalizers: tuple[str, str], tokenizer: Tokenizer
) -> None:
    """Not those of the continuations, which come from the cache because it was just read."""
    reading = plan_reading(space_of(*verbalizers), V2(), tokenizer.encode, tokenizer.end)

    scores = await score_labels(TableEngine(TABLE), reading, PROMPT, Priority.INTERACTIVE)

    assert scores.cached_tokens == 3


async def test_failing_engine_fails_the_score(tokenizer: Tokenizer) -> None:
    """A label that was not read is no label with probability zero."""
    reading = plan_reading(space_of("joy", "joyful"), V2(), tokenizer.encode, tokenizer.end)

    with pytest.raises(EngineUnavailable, match="scripted"):
        await score_labels(TableEngine(TABLE, fails=True), reading, PROMPT, Priority.INTERACTIVE)
