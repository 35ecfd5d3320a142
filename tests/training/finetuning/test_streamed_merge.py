"""Merging tensor by tensor gives the very files that merging a loaded model gives."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen3Config,
)

from service.conversation.labels import LabelSpace
from service.decoding.bundle import Base, read_bundle, write_bundle
from tests.training.conftest import WriteBase, described
from training.finetuning import merge as merging
from training.finetuning import streamed_merge
from training.finetuning.bases import base_revision
from training.finetuning.merge import merge

SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
LLAMA = LlamaConfig(**SMALL, tie_word_embeddings=False)
LINEAR = ["q_proj", "v_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class Case:
    """A base and an adapter.

    Attributes:
        config: of the base; None: the tiny OPT, which is tied.
        lora: the adapter's configuration; None: all weights were trained.
        streamed: whether it is merged tensor by tensor.
    """

    config: Any
    lora: Mapping[str, Any] | None
    streamed: bool = True


CASES = {
    "OPT with biases and norms": Case(
        None,
        {
            "target_modules": ["q_proj", "fc1"],
            "bias": "all",
            "modules_to_save": ["final_layer_norm"],
        },
    ),
    "Llama": Case(LLAMA, {"target_modules": LINEAR}),
    "Llama, stabilised": Case(LLAMA, {"target_modules": LINEAR, "use_rslora": True}),
    "Llama, directions apart": Case(LLAMA, {"target_modules": LINEAR, "use_dora": True}),
    "Llama, other ranks": Case(
        LLAMA,
        {"target_modules": LINEAR, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    ),
    "Llama's words": Case(LLAMA, {"target_modules": ["embed_tokens", "q_proj"]}, streamed=False),
    "Llama's head": Case(LLAMA, {"target_modules": ["lm_head", "q_proj"]}, streamed=False),
    "Llama, head trained whole": Case(
        LLAMA, {"target_modules": LINEAR, "modules_to_save": ["lm_head"]}
    ),
    "Llama, biases of the adapter": Case(
        LlamaConfig(**SMALL, attention_bias=True),
        {"target_modules": ["q_proj"], "lora_bias": True},
        streamed=False,
    ),
    "Llama, trained whole": Case(LLAMA, None),
    "Qwen3, tied": Case(
        Qwen3Config(**SMALL, head_dim=8, tie_word_embeddings=True), {"target_modules": LINEAR}
    ),
    "GPT-2, which stores matrices the other way": Case(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128),
        {"target_modules": ["c_attn"], "fan_in_fan_out": True},
    ),
    "Bloom": Case(
        BloomConfig(hidden_size=32, n_layer=2, n_head=4), {"target_modules": ["query_key_value"]}
    ),
    "Mixtral, whose experts are joined": Case(
        MixtralConfig(**SMALL, num_local_experts=2), {"target_modules": ["q_proj"]}, streamed=False
    ),
}


@pytest.fixture
def written(
    write_base: WriteBase, spaces: Mapping[str, LabelSpace], tmp_path: Path
) -> Callable[[Case], tuple[Path, Path]]:
    """Writes a base with random weights and an adapter of random changes."""

    def write(case: Case) -> tuple[Path, Path]:
        base, adapter = tmp_path / "base", tmp_path / "adapter"
        write_base(base, 1, deepcopy(case.config))
        torch.manual_seed(2)
        model = AutoModelForCausalLM.from_pretrained(base)
        if case.lora is None:
            write_base(adapter, 2, deepcopy(case.config))
        else:
            config = peft.LoraConfig(
                task_type="CAUSAL_LM", r=4, lora_alpha=8, init_lora_weights=False, **case.lora
            )
            adapted = peft.get_peft_model(model, config)
            for parameter in adapted.parameters():
                if parameter.requires_grad:  # norms and biases too
                    parameter.data += torch.randn_like(parameter) / 10
            adapted.save_pretrained(adapter)
        bundle = described(spaces["meld"]).model_copy(
            update={"base": Base(name="base", revision=base_revision(base))}
        )
        write_bundle(bundle, adapter)
        return base, adapter

    return write


def in_bfloat16(base: Path, adapter: Path, file_size: str = "50GB") -> None:
    """Write a base's weights again, in files of a size; the adapter is of them."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size=file_size)
    revision = {"base": Base(name="base", revision=base_revision(base))}
    write_bundle(read_bundle(adapter).model_copy(update=revision), adapter)


def sums(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_files_are_those_of_a_model_that_was_loaded(
    case: Case,
    written: Callable[[Case], tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last byte: weights, configuration, tokenizer."""
    base, adapter = written(case)
    ways: list[bool] = []

    def can_stream(*arguments: Any) -> bool:
        ways.append(streamed_merge.can_stream(*arguments))
        return ways[-1]

    monkeypatch.setattr(merging, "can_stream", can_stream)
    merge(adapter, base, tmp_path / "streamed")
    monkeypatch.setattr(merging, "can_stream", lambda *_: False)
    merge(adapter, base, tmp_path / "loaded")

    assert ways == [case.streamed]
    assert sums(tmp_path / "streamed") == sums(tmp_path / "loaded")


def test_a_base_in_several_files_of_bfloat16(
    written: Callable[[Case], tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As models of many billions come, and the result in several files, too."""
    base, adapter = written(CASES["Llama"])
    in_bfloat16(base, adapter, "500KB")
    monkeypatch.setattr(streamed_merge.write_merged, "__defaults__", (700_000,))

    merge(adapter, base, tmp_path / "streamed")
    monkeypatch.setattr(merging, "can_stream", lambda *_: False)
    merge(adapter, base, tmp_path / "loaded")

    files = sorted((tmp_path / "streamed").glob("*.safetensors"))
    tensors = {name: each for file in files for name, each in load_file(file).items()}
    expected = load_file(tmp_path / "loaded" / "model.safetensors")
    assert len(files) > 1
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    index = json.loads((tmp_path / "streamed" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == expected.keys()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "streamed", dtype=torch.bfloat16)
    assert torch.equal(loaded.lm_head.weight, expected["lm_head.weight"])


def test_a_broken_adapter_is_refused(
    written: Callable[[Case], tuple[Path, Path]], tmp_path: Path
) -> None:
    """One that diverged in training; no bundle is left."""
    base, adapter = written(CASES["Llama"])
    weights = load_file(adapter / "adapter_model.safetensors")
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, adapter / "adapter_model.safetensors", {"format": "pt"})

    with pytest.raises(ValueError, match="NaNs detected"):
        merge(adapter, base, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_memory_is_that_of_a_file(
    written: Callable[[Case], tuple[Path, Path]], tmp_path: Path
) -> None:
    """A model of 0.75 GB in float32, into files of 50 MB."""
    wide = LlamaConfig(**SMALL | {"hidden_size": 1024, "intermediate_size": 4096,
                                  "num_hidden_layers": 8})  # fmt: skip
    base, adapter = written(Case(wide, {"target_modules": LINEAR}))
    in_bfloat16(base, adapter)
    program = f"""
import re, sys, threading, time
from pathlib import Path
import peft, torch
torch.set_num_threads(1)
from training.finetuning import merge as merging, streamed_merge
streamed_merge.write_merged.__defaults__ = (50_000_000,)
merging._MEMORY_SHARE = 0  # as on a machine that cannot hold the model to read its fingerprint
if sys.argv[1] == "loaded":
    merging.can_stream = lambda *_: False
def memory():  # without pages of files, which the system takes back when it needs them
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) / 1000
seen = [memory()]
def watch():
    while True:
        seen.append(memory())
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
merging.merge(Path({str(adapter)!r}), Path({str(base)!r}), Path({str(tmp_path)!r}) / sys.argv[1])
print(max(seen) - seen[0])
"""

    def peak_mb(way: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", program, way], capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    assert peak_mb("streamed") < 350 < 700 < peak_mb("loaded")
