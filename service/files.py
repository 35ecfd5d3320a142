"""Writing files and folders atomically, at the place that their path resolves to; their stamps."""

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

# An unfinished file or folder lies beside its target, under a name that nothing else has. One left
# by a killed process is no longer locked; once it is some seconds old, the next process that writes
# the same target removes it.
_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{16}\.unfinished")
_BEGINNING_S = 10.0  # far longer than from creating a file to locking it
_NAME_CHARACTERS = 40  # a file name has at most 255 bytes, a character up to 4


Stamp = tuple[int, int, int]
"""Changes with every change of a file, including its replacement by another one."""


def stamp_of(file: Path) -> Stamp | None:
    """The file's stamp; None: it cannot be reached."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class OutputError(ValueError):
    """A path cannot or must not be written; the message names the path and the remedy."""


def error_in_words(error: Exception) -> str:
    """An error's message for people; for one of the operating system, the path and the reason."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    if error.filename is None or isinstance(error.filename, int):  # an int is a descriptor
        return f"the operating system: {error.strerror}"
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


@contextmanager
def written_whole(target: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that becomes `target` when the block succeeds.

    After a failure nothing of it is left, and an older `target` is unchanged.

    Raises:
        OutputError: `target` is a link or a folder, cannot be written, or was written by another
            process meanwhile.
    """
    place = place_of_file(target)
    if not place.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {place.parent}")
    older = _version(place)
    with _unfinished(place) as unfinished, _begun(unfinished, target) as file:
        _hold(file.fileno())
        yield file
        file.flush()
        if _version(place) != older:  # some blocks take hours
            kept = place.with_name(f"{place.stem}.{token_hex(4)}{place.suffix}")
            unfinished.rename(kept)
            raise OutputError(
                f"{target}: another process has written it in the meantime; see {kept}"
            )
        unfinished.replace(place)


@contextmanager
def folder_written_whole(
    target: Path, may_go: Callable[[Path], None] = lambda _: None
) -> Iterator[Path]:
    """Make an empty folder that becomes `target` when the block succeeds.

    After a failure nothing of it is left, and an older `target` is unchanged. Files become as
    readable as the folder: libraries create weights for their own user alone.

    Args:
        may_go: called with the older folder, which has been moved away from `target`, before it is
            removed; if it raises, the older folder is restored.

    Raises:
        OutputError: `target` is a link or a file, or cannot be written.
    """
    place = place_of_folder(target)
    with _unfinished(place) as unfinished:
        try:
            unfinished.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"{target}: cannot be written: {error.strerror}") from None
        with _opened(unfinished) as descriptor:
            _hold(descriptor)
            yield unfinished
            readable = unfinished.stat().st_mode & 0o666  # as the umask allows
            for path in unfinished.rglob("*"):
                if path.is_file():
                    path.chmod(path.stat().st_mode | readable)
            _take_place(unfinished, place, may_go)


def place_of_file(target: Path) -> Path:
    """The path of a file `target` with its folder's links resolved.

    Raises:
        OutputError: it is a link or not a regular file, or its folder is not writable.
    """
    place = _place(target)
    if place.is_dir():
        raise OutputError(f"{target}: is a folder; name a file")
    if place.exists() and not place.is_file():
        raise OutputError(
            f"{target}: is not a regular file, so it cannot be replaced; name another path"
        )
    return place


def place_of_folder(target: Path) -> Path:
    """The path of a folder `target` with its parent's links resolved.

    Raises:
        OutputError: it is a link or not a folder, or its parent is not writable.
    """
    place = _place(target)
    if place.exists() and not place.is_dir():
        raise OutputError(f"{target}: is a file; name a folder")
    return place


def check_filled(folder: Path) -> None:
    """Check that files can be written into a folder, which may be a link, or not exist yet.

    Raises:
        OutputError: they cannot.
    """
    if folder.is_dir():
        _check_writable(folder, folder)
    else:
        place_of_folder(folder)


def is_unfinished(path: Path) -> bool:
    """Whether a file or folder is one of this module's that has not got its final name."""
    return _UNFINISHED.fullmatch(path.name) is not None


def _place(target: Path) -> Path:
    if target.is_symlink():
        raise OutputError(
            f"{target}: is a link to {target.readlink()}, and nothing is written through links; "
            "name the path that it points to, or another path"
        )
    # A path without a name of its own, such as "." or "folder/..", is resolved as a whole.
    folder, name = (target.parent, target.name) if target.name not in ("", "..") else (target, "")
    place = Path(os.path.realpath(folder)) / name
    nearest = place.parent
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise OutputError(f"{target}: {nearest} is not a folder")
    _check_writable(nearest, target)
    return place


def _check_writable(folder: Path, target: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{target}: the folder {folder} cannot be written to")


def _take_place(unfinished: Path, place: Path, may_go: Callable[[Path], None]) -> None:
    try:
        unfinished.rename(place)  # replaces nothing, or an empty folder
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
    """A fingerprint that changes when a file is rewritten or replaced; None if there is none."""
    try:
        status = place.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _unfinished(place: Path) -> Iterator[Path]:
    """A new path beside another; whatever is left there when the block ends is removed."""
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
    """Remove what killed processes have left of the same file or folder."""
    beginning = f".{place.name[:_NAME_CHARACTERS]}."
    with contextlib.suppress(OSError):  # leftovers do no harm
        for path in place.parent.iterdir():
            if path.name.startswith(beginning) and is_unfinished(path):
                if 0 <= time.time() - path.lstat().st_mtime < _BEGINNING_S:
                    continue  # its process may be about to lock it
                with contextlib.suppress(BlockingIOError), _opened(path) as descriptor:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _hold(descriptor: int) -> None:
    """Lock a file or folder while it is open, if the file system has locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
