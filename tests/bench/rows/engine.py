"""Row c: the service's engine by itself, given the service's prompts in the best order."""

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import uvloop

from service.decoding.engine import LabelEngine, Priority
from service.decoding.in_process import start_engine
from service.recognition_parts import engine_options
from service.settings import load_settings
from tests.bench.measuring import (
    Measurement,
    ProcessorTime,
    percentiles_ms,
    this_process_and_below,
)
from tests.bench.passes import WARM_UP
from tests.bench.setup import Setup
from tests.bench.turns import Turn, in_waves, read_turns

ONE_AT_A_TIME = 0  # the pass that is asked one by one, here and of the service
ONE_BY_ONE = "one at a time"
IN_WAVES = "in waves"
_PLACES = 256


def measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    return uvloop.run(_measure(setup, demonstrations))


async def _measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    passes = read_turns(setup.prompts_file(demonstrations))
    engine = await start_like_the_service(setup)
    try:
        await read_all(engine, in_waves(passes[WARM_UP]))
        one_by_one = [turn for turns in passes[ONE_AT_A_TIME] for turn in turns]
        together = in_waves([turns for n in setup.measured_passes for turns in passes[n]])
        return [
            await _measured(engine, one_by_one, 1, ONE_BY_ONE, demonstrations),
            await _measured(engine, together, _PLACES, IN_WAVES, demonstrations),
        ]
    finally:
        await engine.close()


def engine_threads() -> int:
    """On how many cores the service's engine computes where there is no GPU."""
    return load_settings().engine.threads or max(1, len(os.sched_getaffinity(0)) - 1)


async def start_like_the_service(setup: Setup) -> LabelEngine:
    """The engine with the options that the service gives it."""
    bundle, _ = setup.load_bundle()
    return await start_engine(
        Path(setup.bundle),
        max_tokens=bundle.max_tokens,
        options=engine_options(load_settings()),
    )


async def read_turn(engine: LabelEngine, turn: Turn) -> int:
    """Read an utterance; how many of its prompt tokens came from the cache."""
    if len(turn) == 1:
        only = turn[0]
        return (await engine.read(only.prompt, only.candidates, Priority.BATCH)).cached_tokens or 0
    readings = await asyncio.gather(
        *(engine.read(read.prompt, read.candidates, Priority.BATCH) for read in turn)
    )
    return sum(reading.cached_tokens or 0 for reading in readings)


async def read_all(
    engine: LabelEngine, turns: Iterable[Turn], places: int = _PLACES
) -> list[tuple[float, int]]:
    """Read many utterances, `places` under way at once, begun in their order.

    Returns:
        For each, as they are answered: seconds from asking to answering, and cached tokens.
    """
    answered: list[tuple[float, int]] = []
    waiting = iter(turns)

    async def reader() -> None:
        for turn in waiting:
            start = time.perf_counter()
            cached = await read_turn(engine, turn)
            answered.append((time.perf_counter() - start, cached))

    async with asyncio.TaskGroup() as group:
        for _ in range(places):
            group.create_task(reader())
    return answered


async def _measured(
    engine: LabelEngine, turns: Sequence[Turn], places: int, load: str, demonstrations: bool
) -> Measurement:
    processor = ProcessorTime(this_process_and_below)
    start = time.perf_counter()
    answered = await read_all(engine, turns, places)
    seconds = time.perf_counter() - start
    processor_s = processor.seconds()
    prompt_tokens = sum(len(read.prompt) for turn in turns for read in turn)
    return Measurement(
        row="c",
        load=load,
        demonstrations=demonstrations,
        what="the service's engine alone, its prompts given",
        utterances=len(turns),
        seconds=seconds,
        latency_ms=percentiles_ms(latency for latency, _ in answered),
        prompt_tokens=prompt_tokens,
        computed_tokens=prompt_tokens - sum(cached for _, cached in answered),
        processor_s=processor_s,
        note=f"as the service starts it, on a CPU with {engine_threads()} of its cores",
    )
