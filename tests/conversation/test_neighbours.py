"""How much of an answer is its neighbours'."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from service.conversation.labels import load_label_spaces
from service.conversation.neighbours import (
    BOTH_BEGIN,
    ONE_BEGINS,
    Neighbour,
    Trust,
    mixed,
    weights,
)
from service.conversation.prediction import Prediction

MELD = load_label_spaces(Path(__file__).parents[2] / "data" / "label_spaces")["meld"]
ANGER, JOY = MELD.names.index("anger"), MELD.names.index("joy")
# Odds of 1 where line and context together have a cosine of 1.5, of e twice as near.
TRUST = Trust(bias=-15, line=10, context=10, verbatim=40)
SAME = Neighbour(JOY, 1.0, 1.0)


def prediction_of(**shares: float) -> Prediction:
    return Prediction(MELD, tuple(shares.get(name, 0.0) for name in MELD.names), 1.0)


def test_a_neighbour_has_the_share_that_its_odds_give_it() -> None:
    """w / (1 - w) = exp(bias + line * similarity + context * context similarity)."""
    (weight,) = weights([Neighbour(JOY, 0.8, 0.9)], 6, replace(TRUST, verbatim=0))

    assert weight / (1 - weight) == pytest.approx(math.exp(-15 + 8 + 9))


def test_model_and_neighbours_together_are_a_distribution() -> None:
    """What is not the neighbours' is the model's."""
    neighbours = [SAME, replace(SAME, label=ANGER, similarity=0.9)]
    shares = weights(neighbours, 6, TRUST)

    prediction = mixed(prediction_of(neutral=0.75, joy=0.25), neighbours, shares)

    left = 1 - sum(shares)
    assert sum(prediction.probabilities) == pytest.approx(1)
    assert prediction.probabilities[JOY] == pytest.approx(0.25 * left + shares[0])
    assert prediction.probabilities[ANGER] == pytest.approx(shares[1])
    assert prediction.label_mass == 1.0


def test_one_that_is_far_has_no_share_at_all() -> None:
    """The answer is then the model's, to the last digit."""
    assert weights([Neighbour(JOY, 0.5, 0.4)], 6, TRUST) == [0.0]
    assert weights([], 6, TRUST) == []


@pytest.mark.parametrize(("words", "counts"), [(1, False), (2, False), (8, True), (20, True)])
def test_many_words_mean_the_same_elsewhere_and_few_do_not(words: int, *, counts: bool) -> None:
    """The same line in another context."""
    (weight,) = weights([Neighbour(JOY, 1.0, ONE_BEGINS)], words, TRUST)

    assert (weight > 0.5) is counts


def test_two_lines_that_begin_their_dialogues_are_not_alike_for_that() -> None:
    """The same one is."""
    same, other = (
        weights([Neighbour(JOY, similarity, BOTH_BEGIN)], 6, TRUST)[0] for similarity in (1.0, 0.5)
    )

    assert same > 0.5
    assert other < 0.05


def test_many_like_neighbours_have_no_larger_share_than_one() -> None:
    """Else a hundred corrections of "Okay." would outvote the model everywhere."""
    one = weights([Neighbour(JOY, 1.0, 0.3)], 1, TRUST)
    many = weights([Neighbour(JOY, 1.0, 0.3)] * 8, 1, TRUST)

    assert sum(many) == pytest.approx(one[0])


def test_of_many_that_agree_only_the_last_few_are_named() -> None:
    """Else an answer would name a hundred of them, each with a hundredth."""
    many = [replace(SAME, corrected_at=float(n)) for n in range(100)]

    assert [n for n, weight in enumerate(weights(many, 6, TRUST)) if weight] == [*range(92, 100)]


def test_the_nearest_has_more_to_say_than_one_that_contradicts_it() -> None:
    """By as much as it is nearer."""
    near, far = weights([SAME, replace(SAME, label=ANGER, similarity=0.8)], 6, TRUST)

    assert near > 2 * far > 0


def test_of_two_that_are_as_near_the_later_one_counts() -> None:
    """Somebody has changed their mind, or another one knew better; who agrees is heard."""
    first, later = replace(SAME, label=ANGER, corrected_at=1.0), replace(SAME, corrected_at=2.0)

    alone = weights([later], 6, TRUST)
    assert weights([first, later], 6, TRUST) == [0.0, *alone]
    assert min(weights([replace(first, label=JOY), later], 6, TRUST)) > 0


def test_nobody_is_believed_altogether() -> None:
    """However near, and of however many words."""
    assert weights([SAME], 100, replace(TRUST, bias=100))[0] < 0.99


def test_below_the_least_similarity_the_same_context_gives_no_vote() -> None:
    """And above it, it does."""
    least = TRUST.least_similarity

    assert weights([Neighbour(JOY, least - 0.01, 1.0)], 20, TRUST) == [0.0]
    assert weights([Neighbour(JOY, least + 0.01, 1.0)], 20, TRUST)[0] > 0
