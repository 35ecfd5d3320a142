"""Archives of dialogues: files, folders and globs on disks and in object stores, by pyarrow.

Nothing of an archive is held but the file that is read, a dialogue at a time.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from service.conversation.dialogue import Dialogue
from service.dialogue_files import (
    DialogueFormatError,
    Placed,
    Reading,
    dialogue_from_json,
    placed_parts,
    with_ids_once,
)
from service.failures import first_line, plain_line
from service.files import OutputError
from service.text_lines import lines_from

_WILD = frozenset("*[")
_ROWS_AT_ONCE = 256  # of Parquet; a row is a dialogue
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Location:
    """A path on a file system of pyarrow.

    Attributes:
        given: as the user wrote it, without the keys that a URI may have.
    """

    filesystem: FileSystem
    path: str
    given: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, LocalFileSystem)


@dataclass(frozen=True, slots=True)
class Archive:
    """The files of an archive, by path."""

    filesystem: FileSystem
    files: tuple[FileInfo, ...]

    @property
    def stamps(self) -> list[list[str | int | None]]:
        """What changes with the files: path, bytes and time of change of each."""
        return [[file.path, file.size, file.mtime_ns] for file in self.files]


def location_of(text: str) -> Location:
    """The place that a path or a URI names; nothing need be there.

    Raises:
        ValueError: the URI is of no file system that pyarrow knows, or malformed.
        OSError: the file system does not answer.
    """
    if "://" not in text:
        return Location(LocalFileSystem(), text, text)
    given = _without_keys(text)
    try:
        filesystem, path = FileSystem.from_uri(text)
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"{given}: {plain_line(str(error).replace(text, given))}") from None
    return Location(filesystem, path, given)


def find_archive(text: str) -> Archive:
    """The files of a path or URI: a file, a folder with all below it, or a glob.

    In a glob, `*` stands for any characters of one name. Names that begin with a dot or an
    underscore are left out of folders and globs: other programs mark unfinished files so.

    Raises:
        ValueError: there is no such file; the message names it.
        OSError: the file system does not answer.
    """
    head, pattern, query = _split(text)
    location = location_of(head + query)
    filesystem = location.filesystem
    (info,) = filesystem.get_file_info([location.path])
    if info.type is FileType.File and not pattern:
        return Archive(filesystem, (info,))
    if info.type is FileType.NotFound:
        raise ValueError(f"{location.given}: there is no such file or folder")
    selector = FileSelector(location.path, recursive=True)
    found = [
        each
        for each in filesystem.get_file_info(selector)
        if each.type is FileType.File and _is_part(_below(each.path, location.path), pattern)
    ]
    if not found:
        raise ValueError(f"{_without_keys(text)}: no file of this archive has a name")
    return Archive(filesystem, tuple(sorted(found, key=lambda each: each.path)))


def dialogues_of(archive: Archive, reading: Reading) -> Iterator[Dialogue | DialogueFormatError]:
    """The dialogues of all files in order, with an error in place of each part that is none.

    A file that is malformed from some place on is an error after its last dialogue.

    Raises:
        OSError: the file system fails.
    """
    for file in archive.files:
        try:
            for _, part in _parts(archive.filesystem, file, reading):
                yield part
        except DialogueFormatError as error:
            yield error


def _parts(filesystem: FileSystem, file: FileInfo, reading: Reading) -> Iterator[Placed]:
    name = Path(file.path)
    try:
        if name.suffix.lower() == ".parquet":
            yield from with_ids_once(_rows(filesystem, file.path), name)
            return
        # What is packed is told by its content, not by the name.
        with filesystem.open_input_stream(file.path, compression=None) as stream:
            lines = lines_from(io.BufferedReader(stream, _BUFFER_BYTES), name, DialogueFormatError)
            yield from placed_parts(lines, name, reading)
    except pa.ArrowInvalid as error:
        raise DialogueFormatError(f"{name}: {first_line(error)}") from None
    except OSError as error:
        raise OSError(f"{name}: {first_line(error)}") from error


def _rows(filesystem: FileSystem, path: str) -> Iterator[Placed]:
    """Dialogues of a Parquet file, whose columns are the fields of a line of JSON."""
    number = 0
    with filesystem.open_input_file(path) as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                number += 1
                place = str(number)
                try:
                    yield place, dialogue_from_json(_without_nulls(row))
                except DialogueFormatError as error:
                    yield place, DialogueFormatError(f"{path}:{place}: {error}")


def _without_nulls(value: Any) -> Any:
    """A row without the fields that it does not have: in a column, each row has a value."""
    match value:
        case dict():
            return {name: _without_nulls(each) for name, each in value.items() if each is not None}
        case list():
            return [_without_nulls(each) for each in value]
    return value


def _without_keys(text: str) -> str:
    return plain_line(text.partition("?")[0]) if "://" in text else text


def _split(text: str) -> tuple[str, tuple[str, ...], str]:
    """A path up to its first name with wildcards, those names, and a URI's query."""
    path, mark, query = text.partition("?") if "://" in text else (text, "", "")
    head: list[str] = []
    names = path.split("/")
    while names and not _WILD & set(names[0]):
        head.append(names.pop(0))
    return "/".join(head) or ("/" if path.startswith("/") else "."), tuple(names), mark + query


def _below(path: str, folder: str) -> tuple[str, ...]:
    return PurePosixPath(path).relative_to(PurePosixPath(folder)).parts


def _is_part(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    if any(name.startswith((".", "_")) for name in names):
        return False
    return not pattern or (
        len(names) == len(pattern)
        and all(fnmatchcase(name, wild) for name, wild in zip(names, pattern, strict=True))
    )


def check_result(target: Location, archive: Archive, *, force: bool) -> None:
    """Check that a result may be written beside an archive.

    Args:
        force: whether a file that exists may be replaced.

    Raises:
        OutputError: it is a folder, one of the archive's files, or exists; or has no folder.
    """
    if target.is_local and not (folder := Path(target.path).absolute().parent).is_dir():
        raise OutputError(f"{target.given}: there is no folder {folder}")
    (info,) = target.filesystem.get_file_info([target.path])
    if info.type is FileType.NotFound:
        return
    if info.type is FileType.Directory:
        raise OutputError(f"{target.given}: is a folder; name a file")
    if target.filesystem.equals(archive.filesystem) and any(
        _resolved(target, target.path) == _resolved(target, file.path) for file in archive.files
    ):
        raise OutputError(f"{target.given}: is read; name another file")
    if not force:
        raise OutputError(
            f"{target.given}: already exists; name another file, or replace it: --force"
        )


def _resolved(target: Location, path: str) -> str:
    return os.path.realpath(path) if target.is_local else path
