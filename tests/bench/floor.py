"""The floor: what no cache can hold, at the rate at which this machine multiplies matrices."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from service.decoding.precision import EngineType, device_type, engine_type
from service.settings import load_settings
from tests.bench.measuring import Measurement
from tests.bench.rows.engine import IN_WAVES, engine_threads
from tests.bench.setup import Setup
from tests.bench.turns import Turns, read_turns

_SIDE = 2048  # of the square matrices that are multiplied
_SIDE_ON_A_GPU = 8192
_MEASURED_S = 2.0


@dataclass(frozen=True, slots=True)
class Floor:
    """What an utterance cannot take less than, and what the bare engine makes of it.

    Attributes:
        matrix_rate: floating-point operations a second, in what the engine computes in, on its
            cores or GPU.
        operations: a token takes, two for each parameter of the layers.
        tokens: of an utterance, which no cache can hold: see `new_tokens`.
        per_second: utterances at that rate.
        engine_share: of those, what the bare engine reaches.
        rate_share: of the matrix rate, what the bare engine reaches on the tokens it computes.
    """

    demonstrations: bool
    matrix_rate: float
    operations: int
    tokens: float
    per_second: float
    engine_share: float
    rate_share: float


def floor_of(engine: Measurement, matrix_rate: float, operations: int, tokens: float) -> Floor:
    """The floor of what a row of the bare engine was asked."""
    per_second = matrix_rate / operations / tokens
    computed = engine.computed_tokens / engine.seconds * operations
    return Floor(
        bool(engine.demonstrations),
        matrix_rate,
        operations,
        tokens,
        per_second,
        engine.per_second / per_second,
        computed / matrix_rate,
    )


def find_floors(
    setup: Setup, measurements: Sequence[Measurement], matrix_rate: float
) -> list[Floor]:
    """With and without demonstrations, as the bare engine was measured."""
    operations = 2 * layer_parameters(Path(setup.bundle))
    floors = []
    for engine in measurements:
        if (engine.row, engine.load) == ("c", IN_WAVES):
            passes = read_turns(setup.prompts_file(bool(engine.demonstrations)))
            read = [passes[number] for number in setup.measured_passes]
            utterances = sum(len(dialogue) for turns in read for dialogue in turns)
            tokens = sum(map(new_tokens, read)) / utterances
            floors.append(floor_of(engine, matrix_rate, operations, tokens))
    return floors


def new_tokens(dialogues: Turns) -> int:
    """Tokens of prompts behind what each shares with the prompt before it in its dialogue.

    A dialogue's first prompt is held against the first of the dialogue before; the very first one
    counts whole.
    """
    total = 0
    first: tuple[int, ...] = ()
    for turns in dialogues:
        before = first
        for number, reads in enumerate(turns):
            for read in reads:
                total += len(read.prompt) - _shared(before, read.prompt)
                before = read.prompt
            if number == 0:
                first = reads[0].prompt
    return total


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    for length, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return length
    return min(len(one), len(other))


def layer_parameters(bundle: Path) -> int:
    """Numbers in the matrices of a bundle's layers, which every computed token goes through."""
    from safetensors import safe_open

    count = 0
    for file in sorted(bundle.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118, not a dictionary
                shape: list[int] = weights.get_slice(name).get_shape()
                if len(shape) == 2 and re.search(r"\.\d+\.", name):
                    count += prod(shape)
    return count


def measure_matrix_rate(compute: EngineType | None = None) -> float:
    """Floating-point operations a second, of the best of many products of large matrices.

    Args:
        compute: what they are of; None: what the service's engine computes in.
    """
    import torch

    device = device_type()
    on_gpu = device == "cuda"
    side = _SIDE_ON_A_GPU if on_gpu else _SIDE
    dtype = getattr(torch, compute or engine_type(load_settings().engine.dtype, device))
    threads = torch.get_num_threads()
    torch.set_num_threads(engine_threads())
    try:
        left, right = torch.randn(2, side, side, device=device).to(dtype)
        best = float("inf")
        end = time.perf_counter() + _MEASURED_S
        while time.perf_counter() < end:
            start = time.perf_counter()
            torch.mm(left, right)
            if on_gpu:
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return float(2 * side**3 / best)
