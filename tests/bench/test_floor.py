"""What no cache can hold, and how far the bare engine is from that."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.bench.floor import floor_of, layer_parameters, measure_matrix_rate, new_tokens
from tests.bench.measuring import Measurement, Percentiles
from tests.bench.rows.engine import IN_WAVES
from tests.bench.turns import Read, Turn


def turn(*prompts: str) -> Turn:
    return tuple(Read(tuple(prompt.encode()), (1, 2)) for prompt in prompts)


def test_tokens_behind_the_shared_beginning_are_new() -> None:
    """Of each turn against the one before; of a first turn, against other dialogues' first."""
    dialogues = (
        (turn("task: a ?"), turn("task: a b ?"), turn("task: a b c ?")),
        (turn("task: x ?"),),
    )

    assert new_tokens(dialogues) == len("task: a ?") + len("b ?") + len("c ?") + len("x ?")


def test_reads_of_one_utterance_share_their_beginning() -> None:
    """Labels that begin alike are read in a second pass."""
    assert new_tokens(((turn("history cue", "history cue joy"),),)) == len("history cue joy")


def test_only_matrices_of_layers_count_as_operations(tmp_path: Path) -> None:
    """Embeddings are looked up; of the output layer a prompt needs one row."""
    tensors = {
        "model.layers.0.fc.weight": torch.zeros(8, 4),
        "model.layers.0.fc.bias": torch.zeros(8),
        "model.embed_tokens.weight": torch.zeros(100, 4),
    }
    save_file(tensors, tmp_path / "model.safetensors")

    assert layer_parameters(tmp_path) == 32


def test_the_engine_is_held_against_the_floor() -> None:
    """Half of the tokens it computes are new, at a tenth of the matrix rate."""
    engine = Measurement(
        row="c",
        load=IN_WAVES,
        demonstrations=True,
        what="",
        utterances=100,
        seconds=2.0,
        latency_ms=Percentiles(1, 1, 1),
        prompt_tokens=8_000,
        computed_tokens=4_000,
        processor_s=1.0,
    )

    floor = floor_of(engine, matrix_rate=2_000_000, operations=100, tokens=20)

    assert floor.per_second == pytest.approx(1_000)
    assert floor.engine_share == pytest.approx(0.05)
    assert floor.rate_share == pytest.approx(0.1)


def test_this_machine_multiplies() -> None:
    """At a rate that a machine can have: between a thousandth and a million of a tera."""
    assert 1e9 < measure_matrix_rate() < 1e18
