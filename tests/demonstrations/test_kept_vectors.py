"""Vectors on the disk, which commands take in place of encoding again."""

import threading
from pathlib import Path

import numpy as np
import pytest

from service.demonstrations.corpus import keep_vectors, read_vectors
from service.demonstrations.encoder import DIMENSIONS, Vectors

EDITION, OTHER = "a" * 64, "b" * 64


def vectors(count: int = 3, seed: int = 7) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)


def test_vectors_are_read_as_they_were_kept(tmp_path: Path) -> None:
    """Bit by bit, of their edition alone."""
    keep_vectors(tmp_path / "kept", EDITION, vectors())

    vectors_kept = read_vectors(tmp_path / "kept", EDITION, 3)

    assert vectors_kept is not None
    assert np.array_equal(vectors_kept, vectors())
    assert read_vectors(tmp_path / "kept", OTHER, 3) is None


def test_one_edition_is_kept(tmp_path: Path) -> None:
    """The newest; and what others have put there stays."""
    (tmp_path / "notes.txt").write_text("mine")
    keep_vectors(tmp_path, EDITION, vectors())
    keep_vectors(tmp_path, OTHER, vectors())

    assert {path.name for path in tmp_path.iterdir()} == {f"{OTHER}.npy", "notes.txt"}


@pytest.mark.parametrize(
    "unusable",
    [
        vectors(2),
        vectors()[:, :-1],
        vectors().astype(np.float64),
        np.full((3, DIMENSIONS), np.nan, np.float32),
        np.array([{"a": 1}] * 3, dtype=object),
    ],
    ids=["too few", "narrow", "double", "not finite", "pickled"],
)
def test_what_is_no_vectors_of_these_demonstrations_is_passed_over(
    unusable: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / f"{EDITION}.npy", unusable)

    assert read_vectors(tmp_path, EDITION, 3) is None


@pytest.mark.parametrize("kept", [b"", b"not an array", b"PK\x03\x04"])
def test_a_broken_file_is_passed_over(kept: bytes, tmp_path: Path) -> None:
    (tmp_path / f"{EDITION}.npy").write_bytes(kept)

    assert read_vectors(tmp_path, EDITION, 3) is None


def test_a_file_cut_short_is_passed_over(tmp_path: Path) -> None:
    keep_vectors(tmp_path, EDITION, vectors())
    path = tmp_path / f"{EDITION}.npy"
    path.write_bytes(path.read_bytes()[:-100])

    assert read_vectors(tmp_path, EDITION, 3) is None


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path) -> None:
    """Here a file stands where the folder would."""
    (tmp_path / "kept").write_text("mine")

    keep_vectors(tmp_path / "kept", EDITION, vectors())

    assert read_vectors(tmp_path / "kept", EDITION, 3) is None
    assert (tmp_path / "kept").read_text() == "mine"


def test_many_may_keep_at_once(tmp_path: Path) -> None:
    """Whoever reads meanwhile finds whole vectors or none, and nothing else is left."""
    threads = [
        threading.Thread(target=keep_vectors, args=(tmp_path, edition, vectors()))
        for edition in (EDITION, OTHER) * 8
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        vectors_kept = read_vectors(tmp_path, EDITION, 3)
        assert vectors_kept is None or np.array_equal(vectors_kept, vectors())

    assert {path.name for path in tmp_path.iterdir()} <= {f"{EDITION}.npy", f"{OTHER}.npy"}
