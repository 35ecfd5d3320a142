"""Intervals and comparisons, on predictions whose spread is known."""

import numpy as np
import pytest

from training.evaluation.bootstrap import (
    NotTheSameUtterances,
    difference,
    interval,
    mean_difference,
    mean_interval,
)
from training.evaluation.metrics import accuracy, weighted_f1
from training.evaluation.predictions import Answer, Predictions


def answered(right: list[bool], utterances_a_dialogue: int = 1) -> Predictions:
    """All of one gold label, said or not."""
    return Predictions(
        "mine",
        ("up", "down"),
        tuple(
            Answer(f"d{n // utterances_a_dialogue}", n, 0, (0.9, 0.1) if ok else (0.1, 0.9))
            for n, ok in enumerate(right)
        ),
    )


def drawn(share: float, seed: int, count: int = 400) -> list[bool]:
    return list(np.random.default_rng(seed).random(count) < share)


def test_interval_of_single_utterances_is_the_binomial_one() -> None:
    """400 of which 60% are right: a standard deviation of 2.45%."""
    right = [True] * 240 + [False] * 160

    bounds = interval(answered(right), accuracy)

    assert bounds.value == pytest.approx(0.6)
    assert bounds.low == pytest.approx(0.6 - 1.96 * 0.0245, abs=0.005)
    assert bounds.high == pytest.approx(0.6 + 1.96 * 0.0245, abs=0.005)


def test_dialogues_that_are_right_or_wrong_as_a_whole_make_it_wider() -> None:
    """40 dialogues of ten are no more evidence than 40 utterances."""
    right = [True] * 240 + [False] * 160

    alone, together = interval(answered(right), accuracy), interval(answered(right, 10), accuracy)

    assert together.high - together.low == pytest.approx(
        10**0.5 * (alone.high - alone.low), rel=0.1
    )


def test_same_predictions_do_not_differ() -> None:
    """Every draw is a tie."""
    lead = difference(answered(drawn(0.6, 1)), answered(drawn(0.6, 1)), weighted_f1)

    assert (lead.value, lead.low, lead.high, lead.by_chance) == (0.0, 0.0, 0.0, 1.0)


def test_lead_on_the_same_utterances_is_told_from_chance() -> None:
    """Right wherever the other is, and in 5% more: by far more certain than two intervals say."""
    weak = drawn(0.6, 1)
    strong = [ok or extra for ok, extra in zip(weak, drawn(0.12, 2), strict=True)]

    lead = difference(answered(strong), answered(weak), accuracy)

    assert lead.value == pytest.approx(np.mean(strong) - np.mean(weak))
    assert 0 < lead.low < lead.value < lead.high
    assert lead.by_chance < 0.001
    alone = interval(answered(strong), accuracy)
    assert lead.high - lead.low < (alone.high - alone.low) / 2


def test_lead_by_chance_is_called_so() -> None:
    """Two models that are right equally often, at different utterances."""
    lead = difference(answered(drawn(0.6, 1)), answered(drawn(0.6, 2)), accuracy)

    assert lead.low < 0 < lead.high
    assert lead.by_chance > 0.05


def test_runs_of_one_model_are_measured_by_their_mean() -> None:
    """On the same draws: twice the same run is that run, and two runs vary less than each."""
    one, other = answered(drawn(0.6, 1)), answered(drawn(0.7, 2))

    both = mean_interval([one, other], accuracy)

    assert mean_interval([one, one], accuracy) == interval(one, accuracy)
    alone = [interval(predictions, accuracy) for predictions in (one, other)]
    assert both.value == pytest.approx((alone[0].value + alone[1].value) / 2)
    assert both.high - both.low < min(each.high - each.low for each in alone)


def test_lead_of_runs_is_that_of_their_means() -> None:
    """A run that both models have in common halves the lead of the other."""
    weak, strong, same = (
        answered(drawn(share, seed)) for seed, share in enumerate((0.5, 0.7, 0.6))
    )

    lead = mean_difference([strong, same], [weak, same], accuracy)

    assert lead.value == pytest.approx(difference(strong, weak, accuracy).value / 2)
    assert lead.low < lead.value < lead.high
    assert lead.by_chance < 0.01


def test_draws_are_the_same_every_time() -> None:
    """By a seed."""
    predictions = answered(drawn(0.6, 1))

    assert interval(predictions, weighted_f1) == interval(predictions, weighted_f1)
    assert len({interval(predictions, weighted_f1, seed) for seed in range(5)}) > 1


def test_other_utterances_are_not_compared() -> None:
    """Fewer, others, or with other labels."""
    predictions = answered([True, False])
    shorter = answered([True])
    moved = Predictions("mine", predictions.labels, predictions.answers[::-1])
    relabelled = Predictions("mine", ("a", "b"), predictions.answers)

    for other, reason in (
        (shorter, "2 utterances and 1"),
        (moved, "utterance 0 of dialogue 'd0' corresponds to 1 of 'd1'"),
        (relabelled, "labels are not the same"),
    ):
        with pytest.raises(NotTheSameUtterances, match=reason):
            difference(predictions, other, accuracy)
        with pytest.raises(NotTheSameUtterances, match=reason):
            mean_interval([predictions, other], accuracy)
        with pytest.raises(NotTheSameUtterances, match=reason):
            mean_difference([predictions, predictions], [predictions, other], accuracy)
