"""Another order of the labels in the prompt, and what becomes of the answers."""

import asyncio
import math
from collections.abc import Mapping, Sequence

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import Label, LabelSpace
from service.decoding.engine import Reading
from service.decoding.tokenizer import Tokenizer
from service.priority import Priority
from service.recognition.opening import open_recognizer
from tests.recognition.conftest import Words
from tests.training.conftest import described
from training.evaluation.evaluate import ask
from training.evaluation.label_orders import flip_rate, in_order, other_orders, with_other_orders
from training.evaluation.predictions import Answer, Predictions


def test_orders_are_of_the_same_labels(spaces: Mapping[str, LabelSpace]) -> None:
    """Nothing else of the label space changes, and the same are drawn every time."""
    meld = spaces["meld"]

    orders = other_orders(meld, 20)

    assert len(orders) == 20
    for other in orders:
        assert (other.name, other.title) == (meld.name, meld.title)
        assert set(other.labels) == set(meld.labels)
        assert other.label("joy") == meld.label("joy")
    assert len({other.names for other in orders}) > 15
    assert other_orders(meld, 20) == orders
    assert other_orders(meld, 0) == []


def test_published_order_is_not_among_them() -> None:
    """Two labels have one other order."""
    space = LabelSpace("moods", "Moods", (Label("up", "up", "joyful"), Label("down", "low", "sad")))

    assert {other.names for other in other_orders(space, 8)} == {("down", "up")}


def test_answers_are_put_into_the_published_order() -> None:
    """Gold label and probabilities move together."""
    predictions = Predictions("mine", ("c", "a", "b"), (Answer("d", 0, 1, (0.5, 0.3, 0.2), 0.9),))

    assert in_order(predictions, ("a", "b", "c")) == Predictions(
        "mine", ("a", "b", "c"), (Answer("d", 0, 0, (0.3, 0.2, 0.5), 0.9),)
    )


def test_flip_rate_is_the_mean_share_of_answers_that_change() -> None:
    """One of four in the first order, three in the second."""

    def saying(*places: int) -> Predictions:
        rows = {0: (0.6, 0.4), 1: (0.1, 0.9)}
        return Predictions(
            "mine", ("a", "b"), tuple(Answer("d", n, 0, rows[p]) for n, p in enumerate(places))
        )

    published = saying(0, 0, 1, 1)

    others = [saying(0, 0, 1, 0), saying(1, 1, 0, 1)]
    assert flip_rate(with_other_orders(published, others)) == pytest.approx(0.5)
    assert flip_rate(with_other_orders(published, [published])) == 0.0
    assert with_other_orders(published, []) == published


class FirstListed:
    """A label engine that says what the prompt lists first, or what it always says."""

    def __init__(self, words: Words, always: str | None = None) -> None:
        self.words, self.always = words, always

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        listed = self.words.decode(prompt).split("Labels: ")[1].split(".\n")[0].split(", ")
        label = self.always or listed[0]
        return Reading(
            tuple(
                math.log(0.9 if self.words.decode([token]).strip() == label else 0.01)
                for token in candidates
            ),
            0,
        )

    async def check(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize(("always", "share"), [("joyful", 0.0), (None, 1.0)])
def test_recognizer_is_asked_in_each_order(
    always: str | None, share: float, spaces: Mapping[str, LabelSpace]
) -> None:
    """A model that knows joy says it in any order; one that says the first label never does."""
    words, meld = Words(), spaces["meld"]
    bundle = described(meld)
    talk = Dialogue("d", (Utterance("Ann", "We won!", "joy"), Utterance("Bo", "Oh.", "sadness")))

    def said(space: LabelSpace) -> Predictions:
        recognizer = open_recognizer(
            bundle,
            Tokenizer(words.encode, (0,), 1),
            {"meld": space},
            FirstListed(words, always),
            None,
        )
        answers = asyncio.run(ask(recognizer, space, [talk], asyncio.Semaphore(2)))
        return in_order(answers, meld.names)

    others = [other for other in other_orders(meld, 6) if other.names[0] != meld.names[0]]
    published, reordered = said(meld), [said(other) for other in others]

    assert flip_rate(with_other_orders(published, reordered)) == share
    assert [a.gold for a in reordered[0].answers] == [a.gold for a in published.answers]
    assert len(others) > 2
