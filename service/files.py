"""Writing files and folders whole or not at all, at the place that their path resolves to."""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TextIO

# Beside what it is to become, under a name that nobody else gives a file. What a killed process
# leaves is locked no more and, once it is some seconds old, removed by the next one that writes
# the same.
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{16}\.unfinished")
_BEGINNING_S = 10.0  # far longer than from a file's making to its lock
_NAME_CHARACTERS = 40  # a file's name has 255 bytes at most, a character up to 4


class OutputError(ValueError):
    """A path that cannot be written or must not be; the message names it, and the remedy."""


def in_words(error: Exception) -> str:
    """An error as people read it: of the operating system's, which path, and what is wrong."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    if error.filename is None or isinstance(error.filename, int):  # a descriptor says nothing
        return f"the operating system: {error.strerror}"
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


@contextmanager
def written_whole(target: Path) -> Iterator[TextIO]:
    """A UTF-8 text file to write that becomes `target` when the block ends well.

    After a failure nothing of it is left, and an older `target` is as it was.

    Raises:
        OutputError: `target` is a link or a folder, or cannot be written there.
    """
    place = place_of_file(target)
    if not place.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {place.parent}")
    older = _version(place)
    with _unfinished(place) as unfinished, _begun(unfinished, target) as file:
        _hold(file.fileno())
        yield file
        file.flush()
        if _version(place) != older:  # some are written for hours
            kept = place.with_name(f"{place.stem}.{token_hex(4)}{place.suffix}")
            unfinished.rename(kept)
            raise OutputError(f"{target}: another process wrote it meanwhile; see {kept}")
        unfinished.replace(place)


@contextmanager
def folder_written_whole(
    target: Path, may_go: Callable[[Path], None] = lambda _: None
) -> Iterator[Path]:
    """An empty folder to fill that becomes `target` when the block ends well.

    After a failure nothing of it is left, and an older `target` is as it was. Files are readable
    by those who may enter the folder: libraries make weights for their own user alone.

    Args:
        may_go: is shown the older folder, which is not at `target` any more, before that is
            removed; if it raises, the older one stays.

    Raises:
        OutputError: `target` is a link or a file, or cannot be written there.
    """
    place = place_of_folder(target)
    with _unfinished(place) as unfinished:
        try:
            unfinished.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"{target}: cannot be written: {error.strerror}") from None
        with _opened(unfinished) as opened:
            _hold(opened)
            yield unfinished
            readable = unfinished.stat().st_mode & 0o666  # what the umask leaves
            for path in unfinished.rglob("*"):
                if path.is_file():
                    path.chmod(path.stat().st_mode | readable)
            _take_place(unfinished, place, may_go)


def place_of_file(target: Path) -> Path:
    """The path at which a file `target` stands, its folder's links followed.

    Raises:
        OutputError: there is a link or something else than a file, or nothing can be written there.
    """
    place = _place(target)
    if place.is_dir():
        raise OutputError(f"{target}: is a folder; name a file")
    if place.exists() and not place.is_file():
        raise OutputError(f"{target}: is no regular file, so it cannot be replaced; name another")
    return place


def place_of_folder(target: Path) -> Path:
    """The path at which a folder `target` stands, that of its own folder's links followed.

    Raises:
        OutputError: there is a link or something else than a folder, or nothing can be written
            there.
    """
    place = _place(target)
    if place.exists() and not place.is_dir():
        raise OutputError(f"{target}: is a file; name a folder")
    return place


def check_filled(folder: Path) -> None:
    """See that files can be written into a folder, which may not be there yet or be linked to.

    Raises:
        OutputError: they cannot.
    """
    if folder.is_dir():
        _check_writable(folder, folder)
    else:
        place_of_folder(folder)


def is_unfinished(path: Path) -> bool:
    """Whether a file or folder is what this module writes, before it has its name."""
    return _UNFINISHED.fullmatch(path.name) is not None


def _place(target: Path) -> Path:
    if target.is_symlink():
        raise OutputError(
            f"{target}: is a link to {target.readlink()}, and nothing is written through a link; "
            "name what it leads to, or another path"
        )
    # What has no name of its own, such as "." or "folder/..", is where it leads.
    above, name = (target.parent, target.name) if target.name not in ("", "..") else (target, "")
    place = Path(os.path.realpath(above)) / name
    nearest = place.parent
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise OutputError(f"{target}: {nearest} is no folder")
    _check_writable(nearest, target)
    return place


def _check_writable(folder: Path, target: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: nothing can be written in {folder}")


def _take_place(unfinished: Path, place: Path, may_go: Callable[[Path], None]) -> None:
    try:
        unfinished.rename(place)  # of nothing, or of an empty folder
        return
    except OSError:
        if not place.is_dir():
            raise
    older = _beside(place, "replaced")
    try:
        place.rename(older)
        may_go(older)
        unfinished.rename(place)
    except BaseException:
        if older.exists() and not place.exists():
            older.rename(place)
        raise
    shutil.rmtree(older)


def _version(place: Path) -> tuple[int, ...] | None:
    """Tells a file from another one that takes its place; None where there is none."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _unfinished(place: Path) -> Iterator[Path]:
    """A new path beside another; what is there when the block ends is removed."""
    _clear(place)
    unfinished = _beside(place, "unfinished")
    try:
        yield unfinished
    finally:
        _remove(unfinished)


def _begun(unfinished: Path, target: Path) -> TextIO:
    try:
        return unfinished.open("x", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}") from None


def _beside(place: Path, what: str) -> Path:
    return place.with_name(f".{place.name[:_NAME_CHARACTERS]}.{token_hex(8)}.{what}")


def _clear(place: Path) -> None:
    """Remove what a killed process has left of the same file or folder."""
    beginning = f".{place.name[:_NAME_CHARACTERS]}."
    with contextlib.suppress(OSError):  # leftovers are in nobody's way
        for path in place.parent.iterdir():
            if path.name.startswith(beginning) and is_unfinished(path):
                if 0 <= time.time() - path.lstat().st_mtime < _BEGINNING_S:
                    continue  # its process may be about to lock it
                with contextlib.suppress(BlockingIOError), _opened(path) as opened:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield opened
    finally:
        os.close(opened)


def _hold(opened: int) -> None:
    """Lock a file or folder as long as it is open, where the file system has locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
