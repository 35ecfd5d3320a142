"""Quantised checkpoints are served as their configuration says, held against the same numbers."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from service.decoding.bundle import look_at_model
from service.decoding.in_process import EngineOptions, start_engine
from service.decoding.model_files import ModelFolderError
from service.errors import EngineUnavailable
from service.priority import Priority
from tests.broken_folders import linked, put, weights

GROUP = 32  # numbers that share a scale
BLOCK = 128  # rows and columns that share one, of fp8
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of eight numbers in one of AWQ's
PROMPT, CANDIDATES = [1, 7, 30, 99, 4, 17], [5, 6, 7, 8]


def packed(codes: Tensor, order: tuple[int, ...] = tuple(range(8))) -> Tensor:
    """Eight codes of four bits in each int32, along the last dimension."""
    eights = codes.to(torch.int64).reshape(*codes.shape[:-1], -1, 8)[..., list(order)]
    sums: Tensor = (eights << (4 * torch.arange(8))).sum(-1)
    return sums.to(torch.int32)  # wraps around, as the format has it


def scaled(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes (in, out), scales (groups, out), and the numbers (out, in) that they stand for."""
    grouped = weight.t().reshape(-1, GROUP, len(weight))
    scales = (grouped.abs().amax(1) / 7).half()
    codes = (grouped / scales.float().unsqueeze(1)).round().clamp(-8, 7) + 8
    numbers = (codes - 8) * scales.float().unsqueeze(1)
    return codes.flatten(0, 1), scales, numbers.flatten(0, 1).t()


def gptq(weight: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
    codes, scales, numbers = scaled(weight)
    zeros = torch.full_like(scales, 7, dtype=torch.int32)  # the format stores one less
    groups = torch.arange(weight.shape[1], dtype=torch.int32) // GROUP
    tensors = {
        "qweight": packed(codes.t()).t(), "qzeros": packed(zeros), "scales": scales, "g_idx": groups
    }  # fmt: skip
    return tensors, numbers


def awq(weight: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
    codes, scales, numbers = scaled(weight)
    zeros = packed(torch.full_like(scales, 8, dtype=torch.int32), AWQ_ORDER)
    return {"qweight": packed(codes, AWQ_ORDER), "qzeros": zeros, "scales": scales}, numbers


def fp8(weight: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
    """With a scale for each block; a scale for each matrix needs a GPU."""
    outputs, inputs = (length // BLOCK for length in weight.shape)
    blocks = weight.reshape(outputs, BLOCK, inputs, BLOCK)
    scales = blocks.abs().amax((1, 3), keepdim=True) / torch.finfo(torch.float8_e4m3fn).max
    codes = (blocks / scales).to(torch.float8_e4m3fn)
    numbers = (codes.float() * scales).flatten(2, 3).flatten(0, 1)
    return {"weight": codes.view_as(weight), "weight_scale_inv": scales[:, 0, :, 0]}, numbers


KINDS: dict[str, tuple[Callable[[Tensor], tuple[Mapping[str, Tensor], Tensor]], dict[str, Any]]] = {
    "gptq": (gptq, {"bits": 4, "group_size": GROUP, "desc_act": False, "sym": True}),
    "awq": (awq, {"bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm"}),
    "fp8": (fp8, {"activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}),
}


def write_quantised(folder: Path, kind: str) -> PreTrainedModel:
    """A checkpoint of a small Llama; the model of the numbers that its codes stand for."""
    quantise, config = KINDS[kind]
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=128, initializer_range=0.15,
        )
    ).eval()  # fmt: skip
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, module in model.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            codes, numbers = quantise(module.weight.detach())
            del tensors[f"model.{name}.weight"]
            tensors |= {f"model.{name}.{key}": each.contiguous() for key, each in codes.items()}
            module.weight.data = numbers.contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    model.config.quantization_config = {"quant_method": kind, **config}
    model.config.save_pretrained(folder)
    del model.config.quantization_config
    return model


HAS_TILES = bool(torch.cpu.get_capabilities().get("amx_tile"))
ON_TILES = pytest.mark.skipif(not HAS_TILES, reason="on a CPU, vLLM computes fp8 with AMX only")


@pytest.mark.parametrize("kind", ["gptq", "awq", pytest.param("fp8", marks=ON_TILES)])
async def test_the_layers_are_quantised_and_the_head_is_not(kind: str, tmp_path: Path) -> None:
    model = write_quantised(tmp_path, kind)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([PROMPT])).logits[0, -1]
    expected = torch.log_softmax(logits.float(), -1)[CANDIDATES]

    engine = await start_engine(
        tmp_path, max_tokens=64, options=EngineOptions(dtype="bfloat16", threads=2)
    )
    try:
        reading = await engine.read(PROMPT, CANDIDATES, Priority.INTERACTIVE)
    finally:
        await engine.close()

    assert reading.log_probabilities == pytest.approx(expected.tolist(), abs=0.1)
    assert math.exp(max(reading.log_probabilities)) < 1


async def test_fp8_is_refused_where_the_processor_cannot_compute_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before vLLM's own process starts, which would end with a list of kernels."""
    write_quantised(tmp_path, "fp8")
    without = {**torch.cpu.get_capabilities(), "amx_tile": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: without)

    with pytest.raises(
        EngineUnavailable, match=r"config\.json: the layers .* fp8, .* requires AMX"
    ):
        await start_engine(tmp_path, max_tokens=64, options=EngineOptions(dtype="bfloat16"))


@pytest.mark.parametrize(
    "name", ["lm_head.qweight", "lm_head.weight", "model.lm_head.weight_packed"]
)
def test_a_quantised_head_is_refused(name: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    """Before vLLM loads the weights and finds that it cannot compute such a head in float32."""
    folder = linked(tokenizer_folder, tmp_path / "bundle")
    put("config.json", '{"architectures": ["LlamaForCausalLM"]}')(folder)
    put("model.safetensors", weights({name: (2, 2)}, "U8"))(folder)

    with pytest.raises(ModelFolderError, match=f"{name}: the output layer is quantised"):
        look_at_model(folder)


def test_other_layers_may_be_quantised(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = linked(tokenizer_folder, tmp_path / "bundle")
    put("config.json", '{"architectures": ["LlamaForCausalLM"]}')(folder)
    put("model.safetensors", weights({"model.layers.0.mlp.up_proj.qweight": (2, 2)}, "U8"))(folder)

    assert look_at_model(folder).is_quantised
