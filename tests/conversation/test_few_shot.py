"""Labels from a few examples: what is learnt, and what is said of examples that are left out."""

import numpy as np
import pytest

from service.conversation import few_shot
from service.conversation.few_shot import fit, left_out, why_not_apart

NAMES = ("one", "two", "three")


def examples(each: int, apart: float, seed: int = 7) -> tuple[few_shot.Floats, few_shot.Places]:
    """Three clouds of unit vectors, `apart` times as far from each other as they are wide."""
    rng = np.random.default_rng(seed)
    gold = np.repeat(np.arange(3), each)
    features = apart * np.eye(3, 20)[gold] + rng.normal(size=(3 * each, 20)) / np.sqrt(20)
    return features / np.linalg.norm(features, axis=1, keepdims=True), gold


def test_left_out_is_as_if_it_had_not_been_there() -> None:
    """The exact shortcut agrees with learning anew without it and one of every other label."""
    known, gold = examples(4, apart=2)
    sentences = np.eye(3, 20)
    _, fitted = fit(known, gold, sentences)

    ratios = []
    for n in range(len(known)):
        others = np.arange(len(known)) % 4 != n % 4
        rows = np.concatenate([known[others], sentences])
        wanted = np.eye(3)[np.concatenate([gold[others], np.arange(3)])] - 1 / 3
        scores = [
            known[n] @ np.linalg.solve(rows.T @ rows + ridge * np.eye(20), rows.T @ wanted)
            for ridge in few_shot._RIDGES
        ]
        logs = np.log(fitted[n])
        # The logarithms of the probabilities are a scale times the scores, up to a constant.
        ratios.append([np.ptp(logs) / np.ptp(each) for each in scores])

    spreads = np.std(ratios, axis=0) / np.mean(ratios, axis=0)
    assert spreads.min() < 1e-9


def test_clear_examples_are_learnt() -> None:
    """New lines of the same kind are told, with probabilities that sum to 1."""
    learnt, fitted = fit(*examples(8, apart=3), np.eye(3, 20))
    lines, gold = examples(100, apart=3, seed=8)

    probabilities = learnt(lines)

    assert (probabilities.argmax(1) == gold).mean() > 0.95
    assert probabilities.sum(1) == pytest.approx(1)
    assert why_not_apart(fitted, examples(8, apart=3)[1], NAMES) is None
    assert left_out(fitted, gold[::13][:24] * 0 + examples(8, apart=3)[1]).accuracy > 0.9


def test_the_same_examples_are_learnt_alike() -> None:
    """To the last bit: every process answers as the others do."""
    one, other = (fit(*examples(8, apart=2), np.eye(3, 20)) for _ in range(2))

    assert (one[0].weights == other[0].weights).all()
    assert one[0].scale == other[0].scale


def test_labels_drawn_at_random_are_not_apart() -> None:
    """Where examples have nothing to do with their labels, hardly any draw is taken for labels."""
    faults = []
    for seed in range(40):
        known, gold = examples(12, apart=0, seed=seed)
        _, fitted = fit(known, gold, np.zeros((3, 20)))
        faults.append(why_not_apart(fitted, gold, NAMES))

    assert sum(fault is None for fault in faults) <= 2


def test_two_labels_that_are_taken_for_each_other_are_named() -> None:
    gold = np.repeat([0, 1, 2], 6)
    left_out = np.full((18, 3), 0.1)
    left_out[np.arange(18), np.where(gold == 0, 0, 3 - gold)] = 0.8
    left_out[[6, 12], :] = 0.1, 0.45, 0.45
    left_out[6, 1] = left_out[12, 2] = 0.46

    assert why_not_apart(np.eye(3)[gold], gold, NAMES) is None
    fault = why_not_apart(left_out, gold, NAMES)
    assert fault is not None
    assert "'two' and 'three'" in fault
    assert "merge them into one label" in fault


def test_sums_up_what_was_recognized() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])

    summed = left_out(probabilities, np.array([0, 0, 1, 1]))

    assert summed.recognized == (1, 2)
    assert summed.accuracy == 0.75
    assert summed.calibration_error == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)


def test_features_of_undecided_models_are_the_vector_alone() -> None:
    """A model that finds all labels as likely says nothing."""
    vector = np.full(4, 0.5, np.float32)

    features = few_shot.features(vector, (0.25,) * 4)

    assert features == pytest.approx([0.5] * 4 + [0] * 4, abs=1e-12)
    assert few_shot.of_sentence(vector, 4) == pytest.approx(features, abs=1e-12)
