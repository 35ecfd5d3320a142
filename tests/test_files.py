"""Files and folders that are there whole or not at all."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from service.files import (
    OutputError,
    check_filled,
    error_in_words,
    folder_written_whole,
    written_whole,
)

Written = Callable[[Path], AbstractContextManager[Any]]
BOTH = pytest.mark.parametrize("written", [written_whole, folder_written_whole])


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
    """With nothing of it left."""
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()

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


def test_folder_that_may_not_go_stays(tmp_path: Path) -> None:
    """It is looked at once nothing more can be put at its path, and then put back."""
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "notes.txt").write_text("mine")

    def may_go(older: Path) -> None:
        assert not target.exists()
        assert (older / "notes.txt").is_file()
        raise OutputError("holds notes.txt")

    with (
        pytest.raises(OutputError, match=r"holds notes\.txt"),
        folder_written_whole(target, may_go) as folder,
    ):
        (folder / "new").touch()

    assert (target / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@BOTH
@pytest.mark.parametrize("leads", ["file", "folder", "nowhere"])
def test_nothing_is_written_through_a_link(written: Written, leads: str, tmp_path: Path) -> None:
    """The link stays, and what it leads to; the error names both."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(leads)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(OutputError, match=f"link: is a link to {leads}, "), written(link):
        pytest.fail("is written")

    assert sorted(tmp_path.rglob("*")) == before
    assert link.is_symlink()


@BOTH
def test_folder_above_may_be_linked_to(written: Written, tmp_path: Path) -> None:
    """As a build folder is that lies on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "build").symlink_to("disk")

    with written(tmp_path / "build" / "made"):
        pass

    assert (tmp_path / "disk" / "made").exists()
    assert (tmp_path / "build").is_symlink()


def test_file_is_not_written_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()

    with pytest.raises(OutputError, match="notes: is a folder"), written_whole(tmp_path / "notes"):
        pytest.fail("is written")


def test_folder_is_not_written_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()

    with (
        pytest.raises(OutputError, match="notes: is a file"),
        folder_written_whole(tmp_path / "notes"),
    ):
        pytest.fail("is written")


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    """A pipe, or a device such as /dev/null."""
    os.mkfifo(tmp_path / "pipe")

    with (
        pytest.raises(OutputError, match="pipe: is not a regular file"),
        written_whole(tmp_path / "pipe"),
    ):
        pytest.fail("is written")


@BOTH
def test_file_is_no_folder_to_write_in(written: Written, tmp_path: Path) -> None:
    """The error names which part of the path is one."""
    (tmp_path / "notes.txt").touch()

    with (
        pytest.raises(OutputError, match=r"notes\.txt is not a folder"),
        written(tmp_path / "notes.txt" / "made"),
    ):
        pytest.fail("is written")


@BOTH
def test_what_another_process_has_only_begun_stays(written: Written, tmp_path: Path) -> None:
    """It is about to lock it; what a killed one has left is older."""
    begun = tmp_path / f".made.{'0' * 16}.unfinished"
    older = tmp_path / f".made.{'1' * 16}.unfinished"
    begun.touch()
    older.touch()
    os.utime(older, (0, 0))

    with written(tmp_path / "made"):
        pass

    assert sorted(path.name for path in tmp_path.iterdir()) == [begun.name, "made"]


@BOTH
def test_names_that_a_user_may_choose_are_left_alone(written: Written, tmp_path: Path) -> None:
    """Whatever is written is beside its target under a name of its own until then."""
    mine = [tmp_path / f"made.{end}" for end in ("unfinished", "new", "part", "tmp")]
    for path in mine:
        path.write_text("mine")

    with written(tmp_path / "made"):
        pass

    assert [path.read_text() for path in mine] == ["mine"] * len(mine)


@BOTH
def test_name_may_be_as_long_as_names_can_be(written: Written, tmp_path: Path) -> None:
    """255 bytes; the name until then is not longer."""
    name = "é" * 127

    with written(tmp_path / name):
        pass

    assert [path.name for path in tmp_path.iterdir()] == [name]


@BOTH
def test_path_may_go_up_again(written: Written, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()

    with written(tmp_path / "here" / ".." / "made"):
        pass

    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "made"]


def test_folder_may_be_named_without_its_name(tmp_path: Path) -> None:
    """As "here/..", which is replaced where that may be."""
    (tmp_path / "made" / "here").mkdir(parents=True)

    with folder_written_whole(tmp_path / "made" / "here" / "..") as folder:
        (folder / "new").touch()

    assert [path.name for path in (tmp_path / "made").iterdir()] == ["new"]


def test_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """What was written is beside it: some files take hours."""
    target = tmp_path / "scored.jsonl"

    with pytest.raises(OutputError) as refused, written_whole(target) as file:  # noqa: PT012
        file.write("ours")
        target.write_text("theirs")

    assert target.read_text() == "theirs"
    (kept,) = (path for path in tmp_path.iterdir() if path != target)
    assert kept.read_text() == "ours"
    assert (
        str(refused.value)
        == f"{target}: another process has written it in the meantime; see {kept}"
    )


@BOTH
def test_next_process_removes_what_a_killed_one_left(written: Written, tmp_path: Path) -> None:
    """But nothing that a process still writes."""
    target = tmp_path / "made"
    program = (
        "import sys, time; from pathlib import Path; import service.files as files\n"
        f"with files.{written.__name__}(Path(sys.argv[1])): print(flush=True), time.sleep(60)"
    )
    started = [sys.executable, "-c", program, str(target)]
    with subprocess.Popen(started, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (left,) = tmp_path.iterdir()
        with written(target):
            assert left.exists()
        process.send_signal(signal.SIGKILL)
    assert left.exists()
    os.utime(left, (0, 0))

    with written(target):
        pass

    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_files_may_be_written_into_a_folder_that_is_linked_to(tmp_path: Path) -> None:
    """Nothing that is there goes; a link that leads nowhere is refused."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "build").symlink_to("disk")
    (tmp_path / "broken").symlink_to("nowhere")

    check_filled(tmp_path / "build")
    check_filled(tmp_path / "new" / "folder")
    with pytest.raises(OutputError, match="broken: is a link to nowhere"):
        check_filled(tmp_path / "broken")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@BOTH
def test_folder_that_cannot_be_written_is_named(written: Written, tmp_path: Path) -> None:
    """Before anything is."""
    tmp_path.chmod(0o500)

    with (
        pytest.raises(OutputError, match="nothing can be written in"),
        written(tmp_path / "made"),
    ):
        pytest.fail("is written")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a"), "a: No such file or"),
        (
            PermissionError(errno.EACCES, "Permission denied", b"a\xff"),
            "a\udcff: Permission denied",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "the operating system: No space left"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "the operating system: Bad file"),
        (OSError("cannot be had"), "cannot be had"),
        (OSError(), "OSError"),
        (ValueError("line 3 is broken"), "line 3 is broken"),
    ],
)
def test_an_error_in_words(error: Exception, told: str) -> None:
    """Never a number or a `None`, which tell nobody what to do."""
    assert error_in_words(error).startswith(told)
