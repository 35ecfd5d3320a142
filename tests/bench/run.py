"""One run: each row in a process of its own, one after the other."""

import asyncio
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.measuring import Measurement
from tests.bench.passes import WARM_UP
from tests.bench.processes import run_watched
from tests.bench.results import read_measurements, write_measurements
from tests.bench.rows.engine import ONE_AT_A_TIME
from tests.bench.setup import Setup, read_setup, write_setup
from tests.bench.turns import write_turns

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    Attributes:
        module: of `tests.bench.rows`.
        variants: with and without demonstrations; the published prompt has no place for any.
        in_its_process: whether the work is done there, not only in processes below it.
        prompts: whether it is given the service's prompts.
    """

    module: str
    variants: tuple[bool, ...] = (False, True)
    in_its_process: bool = True
    prompts: bool = False


ROWS = {
    "a": Row("generate", variants=(False,)),
    "b": Row("choice", variants=(False,)),
    "c": Row("engine", prompts=True),
    "c'": Row("vllm_server", in_its_process=False, prompts=True),
    "d": Row("batch", in_its_process=False),
    "d'": Row("remote_batch", in_its_process=False),
    "e": Row("utterances", in_its_process=False),
}


class RowFailed(Exception):
    """A process of the run failed; the message is the end of what it printed."""


def run(
    setup: Setup, rows: Sequence[str], report: Report, variants: Sequence[bool] = (False, True)
) -> list[Measurement]:
    """Measure rows, in the order asked.

    Args:
        variants: with and without demonstrations, where a row has both.

    Raises:
        RowFailed: a row could not be measured.
    """
    write_setup(setup)
    if any(ROWS[name].prompts for name in rows):
        report("recording the service's prompts")
        _process(["prepare", setup.folder], whole=True)
    measurements = []
    for name in rows:
        row = ROWS[name]
        for demonstrations in (each for each in row.variants if each in variants):
            variant = f", demonstrations {'on' if demonstrations else 'off'}"
            report(f"row {name}{variant if len(row.variants) > 1 else ''}")
            out = Path(setup.folder) / "measurements.json"
            flag = "--demonstrations" if demonstrations else "--no-demonstrations"
            peak = _process(
                ["row", row.module, setup.folder, str(out), flag], whole=row.in_its_process
            )
            for measured in read_measurements(out):
                report(f"  {measured.load}: {measured.per_second:.1f} utterances/s")
                measurements.append(replace(measured, peak_memory_mib=peak))
    return measurements


def matrix_rate(setup: Setup, report: Report) -> float:
    """Operations a second of this machine, measured in a process of its own.

    Raises:
        RowFailed: it could not be measured.
    """
    report("multiplying matrices")
    out = Path(setup.folder) / "matrix_rate.json"
    _process(["matrix-rate", str(out)], whole=True)
    rate: float = json.loads(out.read_text())
    return rate


def prepare(folder: Path) -> None:
    """Record the service's prompts for the passes of a run."""
    from tests.bench.prompts import record_prompts  # with encoder and index, which no row needs

    setup = read_setup(folder)
    _, space = setup.load_bundle()
    numbers = (WARM_UP, ONE_AT_A_TIME, *setup.measured_passes)
    spoken = [(setup.passes(number), space) for number in numbers]
    for demonstrations in (False, True):
        with tempfile.TemporaryDirectory(dir=folder) as index:
            turns = asyncio.run(
                record_prompts(
                    Path(setup.bundle), spoken, Path(index), demonstrations=demonstrations
                )
            )
        write_turns(dict(zip(numbers, turns, strict=True)), setup.prompts_file(demonstrations))


def measure_row(module: str, folder: Path, out: Path, demonstrations: bool) -> None:
    """Measure one variant of a row in this process."""
    row = importlib.import_module(f"tests.bench.rows.{module}")
    write_measurements(row.measure(read_setup(folder), demonstrations), out)


def _process(arguments: Sequence[str], *, whole: bool) -> float:
    """Run a command of this package; the peak memory of its processes, in MiB.

    Args:
        whole: whether its own counts, not only those below it.
    """
    ended = run_watched([sys.executable, "-m", "tests.bench", *arguments], whole=whole)
    if ended.status:
        raise RowFailed(f"{' '.join(arguments)}:\n{ended.printed[-5000:]}")
    return ended.peak_mib
