"""Files and folders that are there whole or not at all."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.files import folder_written_whole, written_whole


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_file_is_there_when_the_block_ends(tmp_path: Path) -> None:
    """And not a moment before."""
    target = tmp_path / "scores.jsonl"

    with written_whole(target) as file:
        file.write("all of it\n")
        assert not target.exists()

    assert target.read_text() == "all of it\n"


def test_file_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    """And nothing else."""
    target = tmp_path / "scores.jsonl"
    target.write_text("older\n")

    with pytest.raises(ValueError, match="no more"), written_whole(target) as file:  # noqa: PT012, the block is what fails
        file.write("half of")
        raise ValueError("no more")

    assert [path.name for path in tmp_path.iterdir()] == ["scores.jsonl"]
    assert target.read_text() == "older\n"


def test_folder_replaces_the_older_one(tmp_path: Path) -> None:
    """What a killed process left of another one is not in it."""
    target = tmp_path / "bundle"
    for folder in (target, tmp_path / "bundle.unfinished"):
        folder.mkdir()
        (folder / "old").touch()

    with folder_written_whole(target) as folder:
        (folder / "new").touch()

    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_folder_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    """And nothing else."""
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()

    with (  # noqa: PT012, the block is what fails
        pytest.raises(ValueError, match="no more"),
        folder_written_whole(target) as folder,
    ):
        (folder / "new").touch()
        raise ValueError("no more")

    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.usefixtures("usual_umask")
def test_weights_that_a_library_kept_private_are_readable(tmp_path: Path) -> None:
    """The service may run as another user than the one who merged."""
    with folder_written_whole(tmp_path / "bundle") as folder:
        (folder / "weights").touch(mode=0o600)
        (folder / "script").touch(mode=0o700)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.parent.rglob("*/*")}
    assert modes == {"weights": 0o644, "script": 0o744}
