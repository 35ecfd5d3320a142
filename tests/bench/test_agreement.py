"""How two paths are compared."""

import math
from pathlib import Path

import pytest

from service.conversation.calibration import Temperature
from service.conversation.labels import load_label_spaces
from service.conversation.prediction import Prediction, prediction_from_scores
from tests.bench.agreement import compare, described, equal_share
from tests.bench.machine import REPOSITORY

MELD = load_label_spaces(Path(REPOSITORY) / "data" / "label_spaces")["meld"]


def predicted(**probabilities: float) -> Prediction:
    """A prediction with these probabilities, what is left spread over the other labels."""
    left = (1 - sum(probabilities.values())) / (len(MELD.names) - len(probabilities))
    spread = [probabilities.get(name, left) for name in MELD.names]
    return prediction_from_scores(MELD, list(map(math.log, spread)), Temperature(1.0))


def test_paths_that_say_the_same_agree_wholly() -> None:
    """Whatever their probabilities."""
    agreement = compare(
        [predicted(joy=0.6), predicted(anger=0.5)], [predicted(joy=0.7), predicted(anger=0.5)]
    )

    assert agreement.equal_share == 1
    assert agreement.differences == ()
    assert agreement.worst == pytest.approx(0.1)
    assert agreement.mean == pytest.approx((0.1 + 6 * 0.1 / 6) / 14)


def test_a_difference_says_how_near_a_tie_it_is() -> None:
    """By the plain path's probabilities of the two labels, the widest first."""
    fast = [predicted(joy=0.50, anger=0.48), predicted(fear=0.6), predicted(joy=0.9)]
    plain = [predicted(joy=0.48, anger=0.49), predicted(fear=0.1, sadness=0.6), predicted(joy=0.9)]

    agreement = compare(fast, plain)

    assert agreement.equal_share == pytest.approx(1 / 3)
    assert [(d.fast, d.plain) for d in agreement.differences] == [
        ("fear", "sadness"),
        ("joy", "anger"),
    ]
    assert [d.margin for d in agreement.differences] == pytest.approx([0.5, 0.01])


def test_each_difference_is_told() -> None:
    """Below the share of equal labels."""
    agreement = compare([predicted(joy=0.5, anger=0.48)], [predicted(joy=0.48, anger=0.49)])

    first, second = described(agreement).splitlines()
    assert first.startswith("meld: 0.00% of 1 labels equal")
    assert second.strip() == "anger on the plain path, joy on the fast one: 0.0100 apart"


def test_paths_that_read_different_numbers_are_not_compared() -> None:
    """Something was lost on the way."""
    with pytest.raises(ValueError, match="1 predictions of one path, 2 of the other"):
        compare([predicted(joy=0.5)], [predicted(joy=0.5)] * 2)


def test_sets_of_different_sizes_count_by_their_utterances() -> None:
    """One label of four is different, though it is all of its set."""
    one = compare([predicted(joy=0.9)], [predicted(anger=0.9)])
    three = compare([predicted(joy=0.9)] * 3, [predicted(joy=0.8)] * 3)

    assert equal_share([one, three]) == pytest.approx(0.75)
