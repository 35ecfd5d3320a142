"""Measures of predictions, against numbers worked out by hand and against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from training.arrays import Floats, Ints
from training.evaluation.metrics import (
    accuracy,
    accuracy_at_coverage,
    brier,
    by_label,
    compared_by,
    confusion,
    macro_f1,
    measure,
    micro_f1,
    neutral_places,
    own_measure,
    weighted_f1,
)
from training.evaluation.predictions import Answer, Predictions


def drawn(seed: int, labels: int = 7, count: int = 400) -> tuple[Ints, Floats]:
    """Gold labels, some rare, and distributions that are right more often than not."""
    rng = np.random.default_rng(seed)
    gold = rng.choice(labels, count, p=np.arange(1, labels + 1) / (labels * (labels + 1) / 2))
    scores = rng.normal(size=(count, labels))
    scores[range(count), gold] += 1.0
    return gold, np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_measures_of_labels_are_scikit_learns(seed: int) -> None:
    """Weighted, macro and micro F1, accuracy, and each label's own."""
    gold, probabilities = drawn(seed)
    predicted = probabilities.argmax(1)
    matrix = confusion(gold, predicted, 7)

    assert matrix.tolist() == sklearn.confusion_matrix(gold, predicted, labels=range(7)).tolist()
    assert weighted_f1(matrix) == pytest.approx(
        sklearn.f1_score(gold, predicted, average="weighted")
    )
    assert macro_f1(matrix) == pytest.approx(sklearn.f1_score(gold, predicted, average="macro"))
    assert accuracy(matrix) == pytest.approx(sklearn.accuracy_score(gold, predicted))
    assert micro_f1(matrix, np.array([0])) == pytest.approx(
        sklearn.f1_score(gold, predicted, labels=range(1, 7), average="micro")
    )
    for value, expected in zip(
        by_label(matrix), sklearn.precision_recall_fscore_support(gold, predicted)[:3], strict=True
    ):
        assert value == pytest.approx(expected)


def test_many_matrices_are_measured_at_once() -> None:
    """As one by one."""
    matrices = np.stack([confusion(*_said(seed), 7) for seed in range(3)])

    for function in (weighted_f1, macro_f1, accuracy):
        assert function(matrices) == pytest.approx([float(function(one)) for one in matrices])


def _said(seed: int) -> tuple[Ints, Ints]:
    gold, probabilities = drawn(seed)
    return gold, probabilities.argmax(1)


def test_label_that_nobody_has_or_says_counts_nowhere() -> None:
    """Two of three labels occur, so the mean is of two."""
    matrix = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])

    assert macro_f1(matrix) == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert by_label(matrix)[2].tolist() == pytest.approx([6 / 7, 4 / 5, 0.0])


def test_micro_f1_leaves_out_what_says_there_is_no_emotion() -> None:
    """Two of three emotions found, one false alarm: 2 * 2 / (3 + 3)."""
    matrix = np.array([[5.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])

    assert micro_f1(matrix, neutral_places(("neutral", "joy", "anger"))) == pytest.approx(4 / 6)
    assert neutral_places(("anger", "no emotion")).tolist() == [1]
    assert neutral_places(("happy", "sad")).tolist() == []


def test_corpora_are_compared_by_the_measure_that_papers_compare_them_by() -> None:
    """DailyDialog, four fifths of which carry no emotion, by micro F1 of the others."""
    matrix = np.array([[80.0, 0.0, 0.0], [5.0, 5.0, 0.0], [10.0, 0.0, 0.0]])
    labels = ("no emotion", "joy", "anger")

    assert own_measure("dailydialog", labels)(matrix) == pytest.approx(2 * 5 / (5 + 20))
    assert own_measure("meld", labels)(matrix) == weighted_f1(matrix)
    metrics = measure(Predictions("dailydialog", labels, (Answer("d", 0, 1, (0.1, 0.8, 0.1)),)))
    assert getattr(metrics, compared_by("dailydialog")) == metrics.micro_f1 == 1.0
    assert [compared_by(space) for space in ("meld", "mine")] == ["weighted_f1"] * 2


def test_brier_score_is_the_squared_distance_from_the_truth() -> None:
    """From 0, certain and right, to 2, certain and wrong."""
    certain = np.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])

    assert brier(certain[:1], np.array([0])) == 0.0
    assert brier(certain[1:2], np.array([1])) == 2.0
    assert brier(certain, np.array([0, 1, 1])) == pytest.approx((0 + 2 + 0.5) / 3)


def test_accuracy_at_coverage_answers_the_most_confident_first() -> None:
    """The five most confident of ten are right, the others wrong."""
    confidence = np.linspace(0.95, 0.55, 10)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    gold = np.array([0] * 5 + [1] * 5)

    curve = accuracy_at_coverage(probabilities[::-1], gold[::-1])

    assert curve[0.1] == curve[0.5] == 1.0
    assert curve[0.8] == pytest.approx(5 / 8)
    assert curve[1.0] == 0.5


def test_everything_is_measured_of_one_set_of_predictions() -> None:
    """Of demonstrations, the nearest counts; an answer without any does not."""
    answers = (
        Answer("a", 0, 0, (0.8, 0.2), 0.9, ("joy", "anger")),
        Answer("a", 1, 1, (0.6, 0.4), 1.0, ("joy",)),
        Answer("b", 0, 1, (0.1, 0.9), 0.8),
    )

    metrics = measure(Predictions("mine", ("joy", "anger"), answers))

    assert metrics.confusion == [[1, 0], [1, 1]]
    assert metrics.utterances == 3
    assert metrics.label_mass == pytest.approx(0.9)
    assert metrics.demonstration_agreement == 0.5
    assert metrics.labels["anger"].support == 2
    assert metrics.labels["anger"].recall == 0.5
    assert metrics.to_json()["labels"]["joy"]["precision"] == 0.5
