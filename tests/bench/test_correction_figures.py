"""What is measured of corrections."""

from dataclasses import replace

import pytest

from tests.bench.correction_figures import (
    Figure,
    calibration_difference,
    differing,
    figures_table,
    percent,
)
from training.evaluation.calibration import calibration_error
from training.evaluation.predictions import Answer, Predictions


def predictions(*rows: tuple[str, int, float]) -> Predictions:
    """Of two labels: dialogue, gold label, probability of the first."""
    answers = tuple(
        Answer(dialogue, index, gold, (first, 1 - first))
        for index, (dialogue, gold, first) in enumerate(rows)
    )
    return Predictions("yes-no", ("yes", "no"), answers)


SURE = predictions(("a", 0, 0.9), ("a", 1, 0.9), ("b", 0, 0.7), ("c", 1, 0.2), ("d", 0, 0.6))


def test_a_figure_at_its_bar_is_met() -> None:
    """Both ways."""
    share = Figure(row="1", name="", asked=80, value=98.0, wanted=98)

    assert share.met
    assert replace(share, at_least=False).met
    assert not replace(share, value=97.5).met
    assert not replace(share, value=98.5, at_least=False).met


def test_a_figure_without_a_bar_is_neither_met_nor_missed() -> None:
    """It is told."""
    assert Figure(row="+", name="", asked=1, value=3.0).met is None


def test_shares_are_of_all_pairs() -> None:
    """In percent; of nothing they are 0."""
    changed = differing(["joy", "fear", "joy", "anger"], ["joy", "joy", "joy", "anger"])

    assert changed == [False, True, False, False]
    assert percent(changed) == 25
    assert percent([]) == 0


def test_equal_answers_differ_in_no_draw() -> None:
    """The interval is empty."""
    lead = calibration_difference(SURE, SURE)

    assert (lead.value, lead.low, lead.high) == (0, 0, 0)


def test_a_difference_of_calibration_errors_lies_in_its_interval() -> None:
    """It is that of the two errors."""
    other = predictions(("a", 0, 0.6), ("a", 1, 0.6), ("b", 0, 0.9), ("c", 1, 0.4), ("d", 0, 0.8))

    lead = calibration_difference(SURE, other)

    wanted = calibration_error(SURE.probabilities, SURE.gold) - calibration_error(
        other.probabilities, other.gold
    )
    assert lead.value == pytest.approx(wanted)
    assert lead.low <= lead.value <= lead.high


def test_draws_of_one_dialogue_have_its_error() -> None:
    """Whatever is drawn is that dialogue: the interval is the value."""
    one = predictions(("a", 0, 0.9), ("a", 1, 0.9), ("a", 0, 0.7))
    other = predictions(("a", 0, 0.6), ("a", 1, 0.4), ("a", 0, 0.8))

    lead = calibration_difference(one, other)

    assert lead.low == pytest.approx(lead.value)
    assert lead.high == pytest.approx(lead.value)


def test_the_table_has_each_figure_beside_its_bar() -> None:
    """One line each; without a bar there is no verdict."""
    lines = figures_table(
        [
            Figure(row="1", name="same", asked=80, before=0, value=99, wanted=98),
            Figure(row="4", name="changed", asked=120, value=2.5, wanted=1, at_least=False),
            Figure(row="+", name="told", asked=7, value=12, note="why"),
        ]
    ).splitlines()

    assert lines[2:] == [
        "| 1 | same | 80 | 0.00 | 99.00 | >= 98 | met |  |",
        "| 4 | changed | 120 |  | 2.50 | <= 1 | missed |  |",
        "| + | told | 7 |  | 12.00 |  |  | why |",
    ]
