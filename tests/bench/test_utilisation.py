"""How much of a matrix rate training makes use of: the formula by hand, the way on a tiny shape."""

import pytest
import torch
from transformers import LlamaConfig
from typer.testing import CliRunner

from tests.bench.utilisation import (
    LENGTH,
    Utilisation,
    Work,
    adapter,
    app,
    llama_2_7b,
    measure,
    measure_sharing,
    operations,
    table,
)
from training.mixture.tasks import Example
from training.recipe import Lora


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    """Four operations for them, six for the adapter's; the head's four where it is asked alone.

    Two rows of 10 tokens, 3 of which are asked about: each token takes
    4 * 1,000 + 6 * 50 + 12 * 8 * 10 = 5,260.
    """
    work = Work(frozen=1_000, trained=50, head=700, attention=8)

    assert operations(work, rows=2, length=10, predicted=3) == 20 * 5_260 + 3 * 4 * 700


def test_all_that_the_steps_take_is_counted() -> None:
    """A tiny shape, whose every matrix can be counted by hand, on this machine's processor.

    Two layers: q and o of 64 x 64, k and v of 32 x 64, three of 128 x 64; rank 4 on q, k and v.
    """
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    lora = Lora(rank=4, alpha=4, targets=("q_proj", "k_proj", "v_proj"))

    utilisation = measure(config, lora, 2, 2, checkpointing=True, matrix_rate=lambda _: 1e9)

    frozen = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64)
    trained = 2 * 4 * ((64 + 64) + 2 * (64 + 32))
    expected = operations(Work(frozen, trained, 100 * 64, 2 * 64), 2, LENGTH, predicted=2 * 4)
    assert utilisation.operations_a_step == expected
    assert utilisation.rate == pytest.approx(2 * expected / utilisation.seconds)
    assert utilisation.tokens_per_second == pytest.approx(2 * 2 * LENGTH / utilisation.seconds)
    assert utilisation.peak_memory_mib > 100


def test_rows_that_examples_share_are_timed_in_each_way_there_is() -> None:
    """On this machine's processor that is a mask for each pair of tokens."""
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    lora = Lora(rank=4, alpha=4, targets=("q_proj", "v_proj"))
    # Two of a dialogue are a row of 300 + 2 * 50 tokens, and two of these rows a batch.
    examples = [
        Example(((dialogue,) * 300, (turn,) * 46), (1, 2, 3, 4))
        for dialogue in range(6)
        for turn in range(2)
    ]

    found = measure_sharing(config, lora, examples, 896, 2, checkpointing=False)

    (way,) = (each for each in found if each.attention == "dense")
    assert (way.row_tokens, way.examples, way.computed) == (448, 8, 2 * 2 * 400)
    assert way.examples_per_second == 8 / way.seconds
    assert len(found) == (2 if torch.cuda.is_available() else 1)


def test_the_shape_is_llama_2_7bs() -> None:
    """6,738,415,616 parameters, and InstructERC's adapter of rank 16 on them."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(llama_2_7b())

    assert model.num_parameters() == 6_738_415_616
    assert adapter().rank == 16


def test_the_table_says_the_share() -> None:
    """Of the rate that was measured, and of the one that is stated."""
    utilisation = Utilisation(8, 512, True, "bfloat16", 10, 4.0, 10**14, 5e14, 30_000.0)

    line = table(utilisation, stated_tflops=1000.0).splitlines()[-1]

    assert line == "| 8 | yes | bfloat16 | 10240 | 250.0 | 50.0% of 500 | 25.0% of 1000 | 30000 |"


@pytest.mark.skipif(torch.cuda.is_available(), reason="would train a large model")
def test_without_a_gpu_it_is_refused() -> None:
    """In a line, before the model is made."""
    ended = CliRunner().invoke(app, [])

    assert ended.exit_code == 2
    assert ended.stderr == (
        "utilisation: there is no GPU here, and a model of 7 billion parameters needs one\n"
    )
