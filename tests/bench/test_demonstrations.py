"""What the measuring of the index rests on: exhaustive search, and the comparison with it."""

from pathlib import Path

import numpy as np
import pytest

from service.demonstrations.encoder import DIMENSIONS, Vectors
from tests.bench.demonstrations import (
    PORTION,
    SEARCHED,
    exhaustive,
    found,
    made_up,
    measure,
    portions,
    row,
)


@pytest.fixture(scope="module")
def base() -> Vectors:
    vectors = np.random.default_rng(1).standard_normal((50, DIMENSIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_exhaustive_search_finds_the_nearest_of_all_portions(base: Vectors) -> None:
    """Of the label space that is searched, best first."""
    size = PORTION + 7
    vectors = np.concatenate([made for _, made in portions(base, size)])
    queries = made_up(base, 3, seed=5)

    best = exhaustive(base, size, queries)

    searched = [number for number in range(size) if row(number).label_space == SEARCHED]
    for query, cosines in zip(queries, best, strict=True):
        expected = sorted((float(vectors[number] @ query) for number in searched), reverse=True)
        assert cosines == pytest.approx(expected[:4], abs=1e-6)


def test_recall_is_the_share_that_was_found() -> None:
    """A miss of the best lets the next one in at the end; an equal of the last is no miss."""
    best = np.array([[0.9, 0.8], [0.9, 0.8]], np.float32)

    recall = found([[0.8, 0.7], [0.9, 0.8]], best)

    assert (recall.first, recall.all) == (0.5, 0.75)


@pytest.mark.parametrize(("exact_up_to", "graph"), [(600, False), (200, True)])
def test_index_is_measured(tmp_path: Path, base: Vectors, exact_up_to: int, graph: bool) -> None:
    """By the store itself, with and without a graph; the index is deleted afterwards."""
    measured = measure(base, 400, 20, tmp_path, exact_up_to)

    assert (measured["searched"], measured["graph"]) == (300, graph)
    assert measured["recall_at_4"] >= (0.9 if graph else 1)
    assert (measured["graph_mib"] > 0) == graph
    assert list(tmp_path.iterdir()) == []
