"""The float32 output layer, held against the plain product."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from service.decoding.output_layer import keep_float32_output_layer

VOCABULARY, HIDDEN = 64, 32


@pytest.fixture
def layer() -> Any:
    """What vLLM builds where it would build a LogitsProcessor, told to compute in float32."""
    keep_float32_output_layer()
    with set_current_vllm_config(VllmConfig()):
        made = LogitsProcessor(VOCABULARY)
    made.head_dtype = torch.float32
    return made


def head(seed: int) -> Any:
    """An output layer in bfloat16."""
    weight = torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(seed))
    return SimpleNamespace(
        weight=torch.nn.Parameter(weight.bfloat16(), requires_grad=False),
        quant_method=UnquantizedEmbeddingMethod(),
        tp_size=1,
    )


def hidden_states() -> torch.Tensor:
    return torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(7)).bfloat16()


def test_logits_are_not_rounded_to_bfloat16(layer: Any) -> None:
    """Each is the product in single precision of the bfloat16 numbers that there are."""
    output = head(1)

    logits = layer(output, hidden_states())

    assert type(layer) is not LogitsProcessor
    expected = functional.linear(hidden_states().float(), output.weight.float())
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=1e-5)
    assert not torch.equal(logits, logits.bfloat16().float())


def test_matrix_is_cast_once(layer: Any) -> None:
    """A change of the weights after the first step is not seen: the copy is what is used."""
    output = head(1)
    before = layer(output, hidden_states())

    output.weight.zero_()

    assert torch.equal(layer(output, hidden_states()), before)


def test_another_output_layer_gets_its_own_weights(layer: Any) -> None:
    """A model may have two heads behind one LogitsProcessor."""
    layer(head(1), hidden_states())

    logits = layer(head(2), hidden_states())

    expected = functional.linear(hidden_states().float(), head(2).weight.float())
    assert torch.allclose(logits, expected, atol=1e-5)


def test_bias_is_added(layer: Any) -> None:
    output, bias = head(1), torch.arange(VOCABULARY).bfloat16()

    difference = layer(output, hidden_states(), bias) - layer(output, hidden_states())

    assert torch.allclose(difference, bias.float().expand(3, -1), atol=1e-4)
