"""Checks of a command's output paths: new, its own, or one that the user lets it replace.

Every command checks each of its output paths here before its work begins.
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

# In a folder that a command made: the command, and the sha256 of each file.
CONTENTS = "contents.json"
_NAMED = 5  # the most entries of a replaced folder that a warning names


@dataclass(frozen=True, slots=True)
class Made:
    """The kind of folder that a command makes, and may replace.

    Attributes:
        by: the command, such as "instructerc-train merge".
        unlisted: returns the files of the command in a folder without a list of contents; empty if
            the folder is not the command's.
    """

    by: str
    unlisted: Callable[[Path], Iterable[str]]


def check_file(target: Path, reads: Iterable[Path] = (), *, force: bool | None = False) -> None:
    """Check that a command may write a file.

    Args:
        reads: the files and folders that the same command reads.
        force: whether an existing file may be replaced; None if the command has no such option.

    Raises:
        OutputError: it cannot be written, is one of `reads`, or already exists.
    """
    place = place_of_file(target)
    if not place.parent.is_dir():
        raise OutputError(f"{target}: there is no folder {place.parent}")
    if not place.exists():
        return
    _refuse_what_is_read(target, place, reads)
    if not force:
        remedy = "move it away" if force is None else "replace it: --force"
        raise OutputError(f"{target}: already exists; name another file, or {remedy}")
    log.warning("%s: will be replaced because of --force", target)


def check_files(
    folder: Path, names: Iterable[str], reads: Iterable[Path] = (), *, force: bool = False
) -> None:
    """Check that a command may write files of these names into a folder, which may not exist yet.

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
    """Check that a command may make a folder, or replace it with everything in it.

    Args:
        reads: the files and folders that the same command reads.
        force: whether a folder with other files than the command's may be replaced.

    Raises:
        OutputError: it cannot be written, is or contains one of `reads`, or contains other files
            than the command's.
    """
    place = place_of_folder(target)
    if not place.exists():
        return
    reads = list(reads)
    _refuse_what_is_read(target, place, reads, within=False)
    if os.path.ismount(place):
        raise OutputError(
            f"{target}: is a mount point, so it cannot be replaced; name a folder in it"
        )
    if Path.cwd().is_relative_to(place):
        raise OutputError(
            f"{target}: is the folder in which this command was started; name another folder"
        )
    foreign = _foreign(place, made)
    if foreign is None:
        return
    if not force:
        raise OutputError(
            f"{target}: {foreign}; name another folder, or replace it with all its contents: "
            "--force"
        )
    _refuse_what_is_read(target, place, reads)
    log.warning("%s: will be replaced because of --force, with %s", target, _all_in(place))


def check_begun(
    target: Path, foreign: Callable[[Path], str | None], reads: Iterable[Path] = ()
) -> None:
    """Check that a command may write into a folder of its own, perhaps to resume its work.

    Args:
        foreign: returns why a folder that is not empty is not the command's; None if it is.
        reads: the folders that the same command reads.

    Raises:
        OutputError: it cannot be written, is one of `reads`, or is not the command's own.
    """
    check_filled(target)
    if not target.is_dir() or not any(target.iterdir()):
        return
    for input_path in reads:
        if input_path.exists() and target.samefile(input_path):
            raise OutputError(f"{target}: is read by this command; name another output folder")
    problem = foreign(target)
    if problem is not None:
        raise OutputError(f"{target}: {problem}; name another folder")


@contextmanager
def made_folder(target: Path, made: Made, *, force: bool = False) -> Iterator[Path]:
    """Make an empty folder that becomes `target`, with a list of contents, if the block succeeds.

    Raises:
        OutputError: as `check_folder`; `target` is then unchanged.
    """

    def may_go(older: Path) -> None:
        if not force and (foreign := _foreign(older, made)) is not None:
            raise OutputError(f"{target}: {foreign}; nothing is replaced")

    with folder_written_whole(target, may_go) as folder:
        yield folder
        _list_contents(folder, {"by": made.by, "files": _hashes(folder, _files(folder))})


def rewritten(folder: Path, name: str) -> None:
    """Update the list of contents, if there is one, after a command has rewritten a file."""
    contents = _contents(folder)
    if contents is not None:
        by, files = contents
        _list_contents(folder, {"by": by, "files": {**files, **_hashes(folder, [name])}})


def _foreign(folder: Path, made: Made) -> str | None:
    """Why a folder holds more than a command made; None if it does not, or is empty."""
    names = _files(folder)
    if not names:
        return None
    contents = _contents(folder)
    if contents is None:
        known = {*made.unlisted(folder)}
    else:
        by, files = contents
        if by != made.by:
            return f"contains what `{by}` wrote"
        known = {CONTENTS, *files}
    other = f"which `{made.by}` did not write"
    for name in names:
        if name not in known or not _is_plain(folder / name):
            return f"contains {name}, {other}"
    if contents is not None:
        unchanged = [name for name in files if name in names]
        changed = _hashes(folder, unchanged).items() - files.items()
        if changed:
            return f"contains {min(changed)[0]}, which has changed since `{made.by}` wrote it"
    return None


def _files(folder: Path) -> list[str]:
    """The files and empty folders in a folder, sorted, without unfinished ones."""
    names = []
    for path in folder.rglob("*"):
        holds_others = _is_folder(path) and any(path.iterdir())
        if not holds_others and not is_unfinished(path):
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _contents(folder: Path) -> tuple[str, Mapping[str, str]] | None:
    """A folder's list of contents: the command that made it, and hashes by file; None if none."""
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
    """Refuse to replace an input of the command, a folder that contains one, or a part of one.

    Args:
        within: whether to refuse parts.
    """
    for input_path in reads:
        resolved = Path(os.path.realpath(input_path))
        if place == resolved or (resolved.exists() and place.samefile(resolved)):
            raise OutputError(f"{target}: is read by this command; name another output path")
        if resolved.is_relative_to(place):
            raise OutputError(
                f"{target}: contains {input_path}, which this command reads; name another path"
            )
        if within and place.is_relative_to(resolved):
            raise OutputError(
                f"{target}: is part of {input_path}, which this command reads; name another path"
            )


def _all_in(folder: Path) -> str:
    names = sorted(path.name + "/" * _is_folder(path) for path in folder.iterdir())
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
