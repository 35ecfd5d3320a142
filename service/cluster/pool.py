"""A pool of Ray's actors that score blocks of dialogues.

Ray's actors and not Ray Data: its operators neither tell which rows a dead actor held nor keep what
is done for the next job.

What an actor held when it died is scored elsewhere: first a block alone on an actor, then each of
its dialogues alone, so that one that kills actors is told from its neighbours.
"""

import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import ray
from ray.exceptions import RayError, RayTaskError

from service.cluster.actors import Row, Scorer, Task, refused
from service.conversation.dialogue import Dialogue
from service.errors import ServiceError
from service.failures import first_line
from service.offline import Part

log = logging.getLogger(__name__)

_BLOCKS_AT_ONCE = 2  # of an actor, which begins the next while the last dialogues of one end
_DEATHS = 3  # of actors that held a dialogue alone; and the most starts that fail in a row
_TICK_S = 1.0
_PROGRESS_S = 10.0
_CLOSING_S = 10.0


class ClusterUnusable(ServiceError):
    """The cluster cannot be reached, or no actor starts; the message says why."""


@dataclass(eq=False)
class _Block:
    """A block under way; `rows` has None for what is not scored yet."""

    number: int
    parts: Sequence[Part]
    rows: list[Row | None]


@dataclass(eq=False)
class _Unit:
    """Dialogues of a block that one call scores.

    Attributes:
        deaths: of actors that held it.
    """

    block: _Block
    indexes: Sequence[int]
    deaths: int = 0

    @property
    def dialogues(self) -> list[Dialogue]:
        parts = (self.block.parts[index] for index in self.indexes)
        return [part for part in parts if isinstance(part, Dialogue)]


@dataclass(eq=False)
class _Actor:
    """An actor, and the calls that it has not answered."""

    handle: Any
    is_open: bool = False
    is_alone: bool = False  # with a unit that an actor has died of
    calls: dict[Any, _Unit | None] = field(default_factory=dict)  # None: the one that opens it


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster, and leave it with all actors gone.

    SIGTERM then ends the program as SIGINT does: by an exception.

    Args:
        address: None: `RAY_ADDRESS`, a Ray that runs on this machine, or else a new one here.

    Raises:
        ClusterUnusable: there is none.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ClusterUnusable(f"--cluster {address or ''}: {first_line(error)}") from error
    # After Ray, which sets a handler of its own.
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def usual_actors(gpus: int) -> int:
    """As many actors as the cluster has room for: by its GPUs or, without any, a node each."""
    resources = ray.cluster_resources()
    if resources.get("GPU"):
        return max(1, int(resources["GPU"]) // gpus)
    return sum(bool(node["Alive"]) for node in ray.nodes())


def score_blocks(
    task: Task,
    actors: int | None,
    blocks: Iterator[tuple[int, Sequence[Part]]],
    done: Callable[[int, Sequence[Row]], None],
    report: Callable[[str], None],
) -> None:
    """Score blocks on actors of the cluster that this process is connected to.

    Blocks are taken as there is room for them, so only those under way are held.

    Args:
        actors: how many; None: `usual_actors`.
        blocks: numbers and dialogues, with errors in place of parts that are none.
        done: called with each block's rows, in the order in which blocks are done.
        report: called with the progress.

    Raises:
        ClusterUnusable: no actor starts.
    """
    engine = task.settings.engine
    on_gpus = engine.urls is None and bool(ray.cluster_resources().get("GPU"))
    made = ray.remote(
        num_cpus=1,
        num_gpus=engine.tensor_parallel if on_gpus else 0,
        scheduling_strategy="SPREAD",
    )(Scorer)
    size = actors or usual_actors(engine.tensor_parallel)
    pool = _Pool(lambda: made.remote(task), size, blocks, done, report)
    try:
        pool.run()
    finally:
        pool.kill()


class _Pool:
    """Actors, and what each scores; of one thread."""

    def __init__(
        self,
        make: Callable[[], Any],
        size: int,
        blocks: Iterator[tuple[int, Sequence[Part]]],
        done: Callable[[int, Sequence[Row]], None],
        report: Callable[[str], None],
    ) -> None:
        self._make = make
        self._size = size
        self._fresh = self._units(blocks)
        self._next = next(self._fresh, None)
        self._again: deque[_Unit] = deque()  # what an actor held that died
        self._done = done
        self._actors: list[_Actor] = []
        self._failed_starts = 0
        self._progress = _Progress(report)

    def run(self) -> None:
        if self._next is None:
            return
        for _ in range(self._size):
            self._start()
        while self._next or self._again or self._is_scoring():
            for actor in self._actors:
                while unit := self._unit_for(actor):
                    self._send(actor, unit)
            self._take()
            if self._progress.is_due():
                self._tell()
        self._tell()
        closing = [actor.handle.close.remote() for actor in self._actors if actor.is_open]
        ray.wait(closing, num_returns=len(closing), timeout=_CLOSING_S)

    def kill(self) -> None:
        for actor in self._actors:
            ray.kill(actor.handle)

    def _tell(self) -> None:
        self._progress.tell(sum(actor.is_open for actor in self._actors), self._size)

    def _units(self, blocks: Iterator[tuple[int, Sequence[Part]]]) -> Iterator[_Unit]:
        for number, parts in blocks:
            rows = [None if isinstance(part, Dialogue) else refused(str(part)) for part in parts]
            if indexes := [index for index, row in enumerate(rows) if row is None]:
                yield _Unit(_Block(number, parts, rows), indexes)
            else:
                self._done(number, [row for row in rows if row is not None])

    def _is_scoring(self) -> bool:
        return any(unit for actor in self._actors for unit in actor.calls.values())

    def _unit_for(self, actor: _Actor) -> _Unit | None:
        if not actor.is_open or actor.is_alone:
            return None
        if self._again:  # nothing else begins meanwhile, so that actors get free for it
            actor.is_alone = not actor.calls
            return self._again.popleft() if actor.is_alone else None
        if len(actor.calls) >= _BLOCKS_AT_ONCE:
            return None
        unit, self._next = self._next, self._next and next(self._fresh, None)
        return unit

    def _start(self) -> None:
        actor = _Actor(self._make())
        actor.calls[actor.handle.open.remote()] = None
        self._actors.append(actor)

    def _send(self, actor: _Actor, unit: _Unit) -> None:
        actor.calls[actor.handle.score.remote(unit.dialogues)] = unit

    def _take(self) -> None:
        """Take the next answers, or none of a second."""
        calls = {call: actor for actor in self._actors for call in actor.calls}
        for call in ray.wait(list(calls), timeout=_TICK_S)[0]:
            actor = calls[call]
            try:
                rows = ray.get(call)
            except RayError as error:
                self._replace(actor, error)
                continue
            unit = actor.calls.pop(call)
            actor.is_alone = actor.is_alone and bool(actor.calls)
            if unit is None:
                actor.is_open = True
                self._failed_starts = 0
                self._progress.begin()
            else:
                self._fill(unit, rows)

    def _replace(self, actor: _Actor, error: RayError) -> None:
        """Put another in the place of one that has died or does not start."""
        self._actors.remove(actor)
        ray.kill(actor.handle)
        for unit in actor.calls.values():
            if unit is not None:
                self._requeue(unit)
        why = _reason(error)
        if actor.is_open:
            log.warning("an actor has died, and another takes its dialogues: %s", why)
            self._start()
            return
        self._failed_starts += 1
        if self._failed_starts < _DEATHS:
            log.warning("an actor does not start, and is tried again: %s", why)
            self._start()
        elif not self._actors:
            raise ClusterUnusable(f"no actor starts: {why}")

    def _requeue(self, unit: _Unit) -> None:
        unit.deaths += 1
        if len(unit.indexes) > 1 and unit.deaths > 1:
            self._again.extend(_Unit(unit.block, [index], deaths=1) for index in unit.indexes)
        elif unit.deaths <= _DEATHS:
            self._again.append(unit)
        else:
            (dialogue,) = unit.dialogues
            why = f"dialogue {dialogue.id!r}: actors die of it, {_DEATHS} that had it alone"
            self._fill(unit, [refused(why)])

    def _fill(self, unit: _Unit, rows: Sequence[Row]) -> None:
        block = unit.block
        for index, row in zip(unit.indexes, rows, strict=True):
            block.rows[index] = row
        self._progress.count(rows)
        scored = [row for row in block.rows if row is not None]
        if len(scored) == len(block.rows):
            self._done(block.number, scored)


class _Progress:
    """How many are scored, and how fast since the first actor was there."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._begun: float | None = None
        self._told = time.monotonic()
        self._dialogues = self._utterances = 0

    def begin(self) -> None:
        self._begun = self._begun or time.monotonic()

    def count(self, rows: Sequence[Row]) -> None:
        self._dialogues += len(rows)
        self._utterances += sum(row.utterances for row in rows)

    def is_due(self) -> bool:
        return time.monotonic() - self._told >= _PROGRESS_S

    def tell(self, actors: int, wanted: int) -> None:
        self._told = now = time.monotonic()
        elapsed_s = 0.0 if self._begun is None else now - self._begun
        rate = self._utterances / elapsed_s if elapsed_s else 0.0
        self._report(
            f"{self._dialogues:,} dialogues, {self._utterances:,} utterances, "
            f"{rate:,.1f} utterances/s, {actors} of {wanted} actors"
        )


def _reason(error: RayError) -> str:
    """Why a call failed, without the traceback that Ray makes part of the message."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return first_line(cause)
