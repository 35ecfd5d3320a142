"""Scoring of an archive on a Ray cluster: what `instructerc score --cluster` does.

The archive is read in order and cut into blocks. A block is a part of the result; a part that an
earlier job has left is not scored again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.cluster.actors import Row, Task
from service.cluster.archives import (
    Archive,
    check_result,
    dialogues_of,
    find_archive,
    location_of,
)
from service.cluster.kept_parts import KeptParts, Summary, has_begun, kept_parts
from service.cluster.pool import connected, score_blocks
from service.dialogue_files import Reading
from service.offline import REPORTED, Part, Scored, answered_space, chunks
from service.recognition_parts import Report
from service.scored_files import Output, OutputMismatch, output_of

# The most of a part of the result; another number makes other parts.
_BLOCK_DIALOGUES = 256
_BLOCK_UTTERANCES = 4_000


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """What is scored into what, and where.

    Attributes:
        output: None: the name of `target` tells.
        force: whether an existing result, or parts of another job for it, may be replaced.
        address: of the cluster; see `connected`.
        actors: how many; None: by the cluster.
    """

    source: str
    target: str
    reading: Reading
    output: Output | None
    force: bool
    address: str | None
    actors: int | None


def score_archive(task: Task, job: ArchiveJob, report: Report) -> Scored:
    """Score all dialogues of an archive into one file, in order.

    Its lines are those of `service.offline.score_file`; a dialogue that cannot be scored is one
    with only `error`.

    Raises:
        OutputMismatch: the result would be subtitles.
        ValueError: there is no such archive, or the result must not be written.
        ServiceError: the label space is unknown, or no actor starts.
        OSError: a file system fails.
    """
    settings = task.settings
    output = _output_into(job)
    _, space = answered_space(settings, task.label_space)
    archive, target = find_archive(job.source), location_of(job.target)
    plan = _plan(task, job, archive)
    check_result(target, archive, force=job.force or has_begun(target, plan))
    blocks = _Blocks(dialogues_of(archive, job.reading))
    with kept_parts(target, plan, force=job.force) as parts:
        if parts.numbers:
            report(f"{len(parts.numbers):,} parts are kept and not scored again")
        with connected(job.address):
            score_blocks(task, job.actors, blocks.without(parts.numbers), _keeper(parts), report)
        utterances = truncated = refusals = 0
        refused: list[str] = []
        for summary in parts.assemble(blocks.count, output, space.names):
            utterances += summary.utterances
            truncated += summary.truncated
            refusals += len(summary.refused)
            refused += summary.refused[: REPORTED - len(refused)]
    return Scored(utterances, truncated, refusals, tuple(refused))


class _Blocks:
    """The blocks of an archive, and how many there were."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = parts
        self.count = 0

    def without(self, numbers: set[int]) -> Iterator[tuple[int, Sequence[Part]]]:
        """The blocks with their numbers, but for some."""
        for block in chunks(self._parts, _BLOCK_DIALOGUES, _BLOCK_UTTERANCES):
            number, self.count = self.count, self.count + 1
            if number not in numbers:
                yield number, block


def _keeper(parts: KeptParts) -> Callable[[int, Sequence[Row]], None]:
    def keep(number: int, rows: Sequence[Row]) -> None:
        summary = Summary(
            dialogues=len(rows),
            utterances=sum(row.utterances for row in rows),
            truncated=sum(row.truncated for row in rows),
            refused=[row.error for row in rows if row.error is not None],
        )
        parts.keep(number, [row.line for row in rows], summary)

    return keep


def _output_into(job: ArchiveJob) -> Output | None:
    """The format of the result; None: Parquet."""
    name = Path(job.target.partition("?")[0])
    if job.output is None and name.suffix.lower() == ".parquet":
        return None
    output = job.output or output_of(name)
    if output is Output.WEBVTT:
        raise OutputMismatch(
            f"{name}: subtitles hold one dialogue, not an archive; name a file that ends with "
            ".jsonl, .csv or .parquet"
        )
    return output


def _plan(task: Task, job: ArchiveJob, archive: Archive) -> dict[str, str]:
    """Fingerprints of all that decides the parts of a result, by what they are of."""
    settings = task.settings
    engine = settings.engine.model_dump(
        mode="json",
        include={"dtype", "kv_dtype", "attention", "weights", "arguments"},
    )
    options = [
        *(task.version, task.label_space, task.demonstrations, repr(job.reading), engine),
        *(_BLOCK_DIALOGUES, _BLOCK_UTTERANCES),
    ]
    data = [settings.demonstrations_file, *sorted((settings.data / "label_spaces").iterdir())]
    return {
        "input": _digest(archive.stamps),
        "bundle": _digest([_stamp(file) for file in sorted(settings.bundle.iterdir())]),
        "data": _digest([_content(file) for file in data]),
        "options": _digest(options),
    }


# Weights are told by their size, and by the hash of them that `contents.json` has; reading them
# would take minutes.
_LARGE_BYTES = 64 * 2**20


def _stamp(file: Path) -> list[str | int]:
    size = file.stat().st_size
    return [file.name, size] if size > _LARGE_BYTES or file.is_dir() else _content(file)


def _content(file: Path) -> list[str | int]:
    return [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
