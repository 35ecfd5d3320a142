"""What is measured of a row, and how."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_SAMPLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In milliseconds."""

    p50: float
    p95: float
    p99: float


def percentiles_ms(seconds: Iterable[float]) -> Percentiles:
    """By nearest rank: each is a value that was measured.

    Raises:
        ValueError: nothing was measured.
    """
    ordered = sorted(seconds)
    if not ordered:
        raise ValueError("no percentile of nothing")

    def at(share: float) -> float:
        return 1000 * ordered[math.ceil(share * len(ordered)) - 1]

    return Percentiles(at(0.50), at(0.95), at(0.99))


def stages_of(server_timing: str) -> dict[str, float]:
    """Seconds by stage, from the value of a `Server-Timing` header; entries without `dur` go."""
    stages: dict[str, float] = {}
    for entry in server_timing.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.lower() == "dur":
                stages[name] = float(value) / 1000
    return stages


def stage_percentiles_ms(server_timings: Iterable[str | None]) -> dict[str, Percentiles]:
    """By stage, over the `Server-Timing` headers of many answers; None where there was none."""
    seconds: dict[str, list[float]] = {}
    for header in server_timings:
        for name, duration in stages_of(header or "").items():
            seconds.setdefault(name, []).append(duration)
    return {name: percentiles_ms(durations) for name, durations in seconds.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One line of the table.

    Attributes:
        row, load, demonstrations: which line it is; demonstrations are None where the prompt has
            no place for any.
        what: in words.
        seconds: from the first request to the last answer.
        latency_ms: from asking to answering, of what is asked at once.
        stages_ms: of the service's stages, where it says them.
        prompt_tokens, computed_tokens: of all prompts; computed are those that no cache served.
        rejects: answers that were none.
        processor_s: of the processes that do the work, the client's left out where it has one of
            its own.
        client_processor_s: of the load client, where there is one.
        peak_memory_mib: proportional set size of the same processes, from start to end, sampled
            each second; None until the row is over.
        note: what a reader should know beside.
    """

    row: str
    load: str
    demonstrations: bool | None
    what: str
    utterances: int
    seconds: float
    latency_ms: Percentiles
    stages_ms: dict[str, Percentiles] = field(default_factory=dict)
    prompt_tokens: int
    computed_tokens: int
    rejects: int = 0
    processor_s: float
    client_processor_s: float | None = None
    peak_memory_mib: float | None = None
    note: str = ""

    @property
    def key(self) -> "Key":
        return self.row, self.load, self.demonstrations

    @property
    def per_second(self) -> float:
        return self.utterances / self.seconds

    @property
    def computed_share(self) -> float:
        return self.computed_tokens / self.prompt_tokens


Key = tuple[str, str, bool | None]  # row, load, demonstrations


class ProcessorTime:
    """Seconds of processor time that processes take between two moments."""

    def __init__(self, processes: Callable[[], Sequence[psutil.Process]]) -> None:
        self._processes = processes
        self._before = self._now()

    def seconds(self) -> float:
        """Since this was made. What a process took that has ended since is lost."""
        return sum(
            taken - self._before.get(identity, 0.0) for identity, taken in self._now().items()
        )

    def _now(self) -> dict[tuple[int, float], float]:
        seconds_of = {}
        for process in self._processes():
            try:
                times = process.cpu_times()
                seconds_of[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return seconds_of


def this_process_and_below() -> list[psutil.Process]:
    process = psutil.Process()
    return [process, *process.children(recursive=True)]


def this_process() -> list[psutil.Process]:
    return [psutil.Process()]


def process_and_below(pid: int) -> list[psutil.Process]:
    """A process and its descendants; none where it has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class MemoryWatch:
    """Samples the memory of processes until it is left.

    Attributes:
        peak_mib: the largest sum of their proportional set sizes: what they share counts once.
    """

    def __init__(self, processes: Callable[[], Sequence[psutil.Process]]) -> None:
        self._processes = processes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mib = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            total = sum(_proportional_set_kib(process.pid) for process in self._processes())
            self.peak_mib = max(self.peak_mib, total / 1024)


def _proportional_set_kib(pid: int) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
