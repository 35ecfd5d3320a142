"""Checks of a command's output path: new, its own, or one that the user lets it replace.

Every command asks here, before its work begins, about each path that it is to write.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.files import (
    OutputError,
    check_filled,
    folder_written_whole,
    is_unfinished,
    place_of_file,
    place_of_folder,
    written_whole,
)

log = logging.getLogger(__name__)

# Stands in a folder that a command made: by which one, and the sha256 of each file in it.
CONTENTS = "contents.json"
_NAMED = 5  # of what is replaced, at most


@dataclass(frozen=True, slots=True)
class Made:
    """The kind of folder that a command makes, and replaces where it finds one.

    Attributes:
        by: the command, such as "instructerc-train merge".
        unlisted: the files in a folder that the command made, if it is one, where no list of
            contents stands in it.
    """

    by: str
    unlisted: Callable[[Path], Iterable[str]]


def check_file(target: Path, reads: Iterable[Path] = (), *, force: bool | None = False) -> None:
    """See that a command may write a file.

    Args:
        reads: the files and folders that the same command reads.
        force: whether a file that is there may go; None where a user cannot say so.

    Raises:
        OutputError: it cannot be written, is one of those that are read, or exists already.
    """
    place = place_of_file(target)
    if not place.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {place.parent}")
    if not place.exists():
        return
    _refuse_what_is_read(target, place, reads)
    if not force:
        way = "move it away" if force is None else "replace it: --force"
        raise OutputError(f"{target}: already exists; name another file, or {way}")
    log.warning("%s: will be replaced, as --force says", target)


def check_files(
    folder: Path, names: Iterable[str], reads: Iterable[Path] = (), *, force: bool = False
) -> None:
    """See that a command may write files of these names into a folder, which it may make first.

    Raises:
        OutputError: as `check_file`.
    """
    check_filled(folder)
    if folder.is_dir():
        for name in names:
            check_file(folder / name, reads, force=force)


def check_folder(
    target: Path, made: Made, reads: Iterable[Path] = (), *, force: bool = False
) -> None:
    """See that a command may make a folder, or replace it with all that is in it.

    Args:
        reads: the files and folders that the same command reads.
        force: whether a folder may go in which there are files that the command did not make.

    Raises:
        OutputError: it cannot be written, is or holds what is read, or holds something else than
            what the command made.
    """
    place = place_of_folder(target)
    if not place.exists():
        return
    reads = list(reads)
    _refuse_what_is_read(target, place, reads, within=False)
    if os.path.ismount(place):
        raise OutputError(f"{target}: is mounted, so it cannot be replaced; name a folder in it")
    if Path.cwd().is_relative_to(place):
        raise OutputError(f"{target}: is where this command was started; name another folder")
    foreign = _foreign(place, made)
    if foreign is None:
        return
    if not force:
        raise OutputError(
            f"{target}: {foreign}; name another folder, or replace it, with all that is in it: "
            "--force"
        )
    _refuse_what_is_read(target, place, reads)
    log.warning("%s: will be replaced, as --force says, with %s", target, _all_in(place))


def check_begun(
    target: Path, foreign: Callable[[Path], str | None], reads: Iterable[Path] = ()
) -> None:
    """See that a command may write into a folder of its own, in which it may have begun before.

    Args:
        foreign: what tells that a folder with something in it is not the command's, if so.
        reads: the folders that the same command reads.

    Raises:
        OutputError: it cannot be written, is one of those that are read, or not the command's own.
    """
    check_filled(target)
    if not target.is_dir() or not any(target.iterdir()):
        return
    for read in reads:
        if read.exists() and target.samefile(read):
            raise OutputError(f"{target}: is read by this command; name another folder to write")
    what = foreign(target)
    if what is not None:
        raise OutputError(f"{target}: {what}; name another folder")


@contextmanager
def made_folder(target: Path, made: Made, *, force: bool = False) -> Iterator[Path]:
    """An empty folder to fill that becomes `target` when the block ends well, with its contents.

    Raises:
        OutputError: as `check_folder`; `target` is then as it was.
    """

    def may_go(older: Path) -> None:
        if not force and (foreign := _foreign(older, made)) is not None:
            raise OutputError(f"{target}: {foreign}; nothing is replaced")

    with folder_written_whole(target, may_go) as folder:
        yield folder
        _list_contents(folder, {"by": made.by, "files": _hashes(folder, _files(folder))})


def rewritten(folder: Path, name: str) -> None:
    """Take note that a command wrote a file of a folder anew, where a list of contents stands."""
    contents = _contents(folder)
    if contents is not None:
        by, files = contents
        _list_contents(folder, {"by": by, "files": {**files, **_hashes(folder, [name])}})


def _foreign(folder: Path, made: Made) -> str | None:
    """What tells that a folder is not just what a command made; None for that, or an empty one."""
    found = _files(folder)
    if not found:
        return None
    contents = _contents(folder)
    if contents is None:
        known = {*made.unlisted(folder)}
    else:
        by, files = contents
        if by != made.by:
            return f"holds what `{by}` made"
        known = {CONTENTS, *files}
    other = f"which `{made.by}` did not write"
    for name in found:
        if name not in known or not _is_plain(folder / name):
            return f"holds {name}, {other}"
    if contents is not None:
        there = [name for name in files if name in found]
        changed = _hashes(folder, there).items() - files.items()
        if changed:
            return f"holds {min(changed)[0]}, which was changed since `{made.by}` wrote it"
    return None


def _files(folder: Path) -> list[str]:
    """All that is in a folder but the folders that hold something, sorted."""
    found = []
    for path in folder.rglob("*"):
        holds_others = _is_folder(path) and any(path.iterdir())
        if not holds_others and not is_unfinished(path):
            found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _contents(folder: Path) -> tuple[str, Mapping[str, str]] | None:
    """The list of contents in a folder: the command that made it, and hashes by file."""
    path = folder / CONTENTS
    try:
        match json.loads(path.read_bytes()):
            case {"by": str(by), "files": dict(files)}:
                return by, {str(name): str(sha256) for name, sha256 in files.items()}
    except (OSError, ValueError, RecursionError):
        pass
    return None


def _list_contents(folder: Path, contents: Mapping[str, object]) -> None:
    with written_whole(folder / CONTENTS) as file:
        file.write(json.dumps(contents, indent=1) + "\n")


def _hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    hashes = {}
    for name in names:
        with (folder / name).open("rb") as file:
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _refuse_what_is_read(
    target: Path, place: Path, reads: Iterable[Path], *, within: bool = True
) -> None:
    """Refuse to replace what a command reads: that itself, what holds it, or is part of it.

    Args:
        within: whether parts are refused too.
    """
    for read in reads:
        real = Path(os.path.realpath(read))
        if place == real or (real.exists() and place.samefile(real)):
            raise OutputError(f"{target}: is read by this command; name another path to write")
        if real.is_relative_to(place):
            raise OutputError(f"{target}: holds {read}, which this command reads; name another")
        if within and place.is_relative_to(real):
            raise OutputError(
                f"{target}: is part of {read}, which this command reads; name another"
            )


def _all_in(folder: Path) -> str:
    names = sorted(path.name + "/" * _is_folder(path) for path in folder.iterdir())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
