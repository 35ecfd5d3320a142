"""The parts of a result that are done, kept beside it until it is whole.

`OUT` has the folder `.OUT.parts`: a plan of what is scored with what, and a file for each block of
dialogues, whose first line is a `Summary`. Each appears whole: on a disk by renaming, in an object
store with its last byte.
"""

import contextlib
import fcntl
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileType

from service.cluster.archives import Location
from service.files import OutputError
from service.json_lines import line_of
from service.scored_files import Output, writer

_PLAN = "plan.json"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a part holds.

    Attributes:
        refused: the errors of its dialogues and lines that are not scored.
    """

    dialogues: int
    utterances: int
    truncated: int
    refused: Sequence[str]


class KeptParts:
    """The parts of one result. Made by `kept_parts`.

    Attributes:
        numbers: of the parts that are kept.
    """

    def __init__(self, target: Location, folder: str) -> None:
        self._target = target
        self._folder = folder
        self.numbers = {
            int(name.removeprefix("part-").removesuffix(".jsonl"))
            for name in _names_in(target, folder)
            if name.startswith("part-") and name.endswith(".jsonl")
        }

    def keep(self, number: int, rows: Sequence[str], summary: Summary) -> None:
        """Write a part: the JSON lines of its dialogues, in order."""
        content = "".join([line_of(asdict(summary)), *rows]).encode()
        with _appearing(self._target, self._path(number)) as file:
            file.write(content)
        self.numbers.add(number)

    def assemble(
        self, count: int, output: Output | None, labels: Sequence[str]
    ) -> Iterator[Summary]:
        """Write the result of parts 0 to `count`; yield what each holds once it is written.

        The result appears after the last, and then the parts are removed.

        Args:
            output: None: Parquet.
            labels: those of the label space, in its order.
        """
        with _appearing(self._target, self._target.path) as file:
            match output:
                case None:
                    yield from self._assemble_parquet(count, file, labels)
                case Output.JSONL:
                    for number in range(count):
                        with self._opened(number) as part:
                            summary = _summary(part.readline())
                            file.write(part.read())
                        yield summary
                case _:
                    text = io.TextIOWrapper(file, "utf-8", newline="\n")
                    scored_file = writer(output, text, labels)
                    for number in range(count):
                        with self._opened(number) as part:
                            summary = _summary(part.readline())
                            for scored in map(json.loads, part):
                                if "error" in scored:
                                    scored_file.refuse(scored["error"])
                                else:
                                    scored_file.add(scored)
                        yield summary
                    text.flush()
                    text.detach()
        self._target.filesystem.delete_dir(self._folder)

    def _assemble_parquet(
        self, count: int, file: IO[bytes], labels: Sequence[str]
    ) -> Iterator[Summary]:
        schema = _schema(labels)
        with pq.ParquetWriter(file, schema) as rows:
            for number in range(count):
                with self._opened(number) as part:
                    summary = _summary(part.readline())
                    rows.write_table(pa.Table.from_pylist(list(map(json.loads, part)), schema))
                yield summary

    def _opened(self, number: int) -> io.BufferedReader:
        return io.BufferedReader(self._target.filesystem.open_input_stream(self._path(number)))

    def _path(self, number: int) -> str:
        return f"{self._folder}/part-{number:08}.jsonl"


@contextmanager
def kept_parts(target: Location, plan: Mapping[str, str], *, force: bool) -> Iterator[KeptParts]:
    """The parts that an earlier job for the same result has left, or none.

    Args:
        plan: fingerprints, by what they are of.
        force: whether parts of another plan may be removed.

    Raises:
        OutputError: there are parts of another plan, or a job is at work on the result.
    """
    folder = parts_folder(target)
    filesystem = target.filesystem
    # An object store has no folders that could be missing.
    filesystem.create_dir(folder, recursive=not target.is_local)
    with _locked(target, folder):
        older = _plan_of(target, folder)
        if older is not None and older != plan:
            others = " and ".join(name for name in plan if older.get(name) != plan[name])
            if not force:
                raise OutputError(
                    f"{target.given}: {folder} has parts of a job with another {others}; "
                    "name another file, or begin again: --force"
                )
            for name in _names_in(target, folder):
                if name != _LOCK:
                    filesystem.delete_file(f"{folder}/{name}")
        if older != plan:
            with _appearing(target, f"{folder}/{_PLAN}") as file:
                file.write(json.dumps(dict(plan)).encode())
        yield KeptParts(target, folder)


def has_begun(target: Location, plan: Mapping[str, str]) -> bool:
    """Whether a job of this plan has left its parts, which may then go on."""
    return bool(_plan_of(target, parts_folder(target)) == plan)


def parts_folder(target: Location) -> str:
    """The folder of a result's parts; folders of archives are read without it."""
    folder, _, name = target.path.rpartition("/")
    return f"{folder}/.{name}.parts" if folder or target.path.startswith("/") else f".{name}.parts"


def _plan_of(target: Location, folder: str) -> Any:
    path = f"{folder}/{_PLAN}"
    (info,) = target.filesystem.get_file_info([path])
    if info.type is not FileType.File:
        return None
    with target.filesystem.open_input_stream(path) as file:
        return json.loads(file.read())


def _names_in(target: Location, folder: str) -> list[str]:
    selector = FileSelector(folder, allow_not_found=True)
    return [info.base_name for info in target.filesystem.get_file_info(selector)]


def _summary(line: bytes) -> Summary:
    return Summary(**json.loads(line))


@contextmanager
def _appearing(target: Location, path: str) -> Iterator[IO[bytes]]:
    """A file that is there once it is whole; after a failure an older one on a disk is there."""
    filesystem = target.filesystem
    writes = f"{path}.unfinished" if target.is_local else path
    with filesystem.open_output_stream(writes, compression=None) as file:
        try:
            yield file
        except BaseException:
            # An object store has no other way to give up what is written.
            file.close()
            with contextlib.suppress(OSError):
                filesystem.delete_file(writes)
            raise
    if target.is_local:
        filesystem.move(writes, path)


@contextmanager
def _locked(target: Location, folder: str) -> Iterator[None]:
    """Hold a result while the block runs, if the file system has locks."""
    if not target.is_local:
        yield
        return
    descriptor = os.open(Path(folder) / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OutputError(f"{target.given}: another job is at work on it") from None
    except OSError:  # some network file systems have none
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def _schema(labels: Sequence[str]) -> Any:
    """Parquet's columns for what a line of JSON has."""
    text, number, flag = pa.string(), pa.float64(), pa.bool_()
    emotion = pa.struct(
        {
            "label_space": text,
            "label": text,
            "unified": text,
            "confidence": number,
            "probabilities": pa.struct(dict.fromkeys(labels, number)),
            "label_mass": number,
        }
    )
    demonstration = pa.struct(
        {
            "id": text,
            "text": text,
            "label": text,
            "similarity": number,
            "weight": number,
            "shown": flag,
        }
    )
    utterance = pa.struct(
        {
            **dict.fromkeys(("id", "speaker", "role"), text),
            **dict.fromkeys(("start", "end"), number),
            **dict.fromkeys(("text", "label", "description"), text),
            "emotion": emotion,
            "model_alone": emotion,
            "demonstrations": pa.list_(demonstration),
            "model": pa.struct(dict.fromkeys(("bundle", "version", "template"), text)),
            "degraded": pa.list_(text),
            "truncated": flag,
        }
    )
    return pa.schema({"id": text, "utterances": pa.list_(utterance), "error": text})
