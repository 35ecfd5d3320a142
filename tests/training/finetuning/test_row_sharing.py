"""Examples share rows where the model keeps them apart, and nowhere else."""

import logging
import re
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen3Config,
)

from tests.training.conftest import RECIPE, WriteBase
from training.finetuning import finetune
from training.finetuning.packed_loss import packed_loss
from training.finetuning.packing import collate, pack
from training.finetuning.row_attention import RowAttention
from training.finetuning.row_sharing import reads_trees
from training.mixture.sources import Sources
from training.mixture.tasks import main_task, prompt_settings
from training.recipe import Recipe

SIZES: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
GATED: dict[str, Any] = SIZES | {"num_key_value_heads": 1, "intermediate_size": 64}
# A convolution of three tokens, and attention.
HYBRID = Lfm2Config(
    **GATED,
    initializer_range=0.2,
    layer_types=["conv", "full_attention"],
    block_auto_adjust_ff_dim=False,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("config", "reads"),
    [
        (LlamaConfig(**GATED), True),
        (Qwen3Config(**GATED, head_dim=16), True),
        (OPTConfig(**SIZES, ffn_dim=32, word_embed_proj_dim=32), True),
        (FalconConfig(**SIZES), True),
        (FalconConfig(**SIZES, alibi=True), False),
        (BloomConfig(n_layer=2, hidden_size=32, n_head=2), False),
        (HYBRID, False),
        (MistralConfig(**GATED, sliding_window=4), False),
    ],
    ids=["llama", "qwen", "opt", "falcon", "falcon-alibi", "bloom", "lfm2", "short-window"],
)
def test_examples_share_rows_where_each_is_read_as_if_alone(
    config: PretrainedConfig, reads: bool, dtype: torch.dtype
) -> None:
    """Not where the model counts positions, looks back or carries a state in a way of its own."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config).to(dtype).train()

    assert [reads_trees(model) for _ in range(2)] == [reads, reads]
    assert model.training


def test_hybrid_model_is_trained_one_example_a_row(
    write_base: WriteBase, sources: Sources, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No token of a prompt is shared, and what is learned holds for examples by themselves."""
    write_base(tmp_path / "base", 1, HYBRID)
    stage = RECIPE["stages"][1] | {"learning_rate": 0.02}
    changed = {
        "label_spaces": ["meld", "unified"],
        "lora": {"rank": 4, "alpha": 16, "targets": ["q_proj", "k_proj", "v_proj", "in_proj"]},
        "stages": [stage],
    }
    recipe = Recipe.model_validate(RECIPE | changed)
    settings = prompt_settings(recipe, tmp_path / "base")
    (corpus,) = sources.corpora(recipe.stages[0].corpora)
    examples = [
        labelled.example
        for dialogue in corpus.dialogues
        for labelled in main_task(dialogue, corpus.label_space, settings, {})
    ]
    rows = list(pack(examples, 0))

    def loss(model: Any) -> float:
        with torch.no_grad():
            batch = collate(rows, RowAttention.ALONE)
            return float(packed_loss(model.eval(), model, batch, {"main": 1.0}))

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    before = loss(base)
    with caplog.at_level(logging.INFO, "training"):
        finetune.train(recipe, tmp_path / "base", sources, tmp_path / "run")

    packed = re.search(r"(\d+) tokens packed into (\d+)", caplog.text)
    assert packed is not None
    assert int(packed[2]) > int(packed[1])  # by the targets
    trained = peft.PeftModel.from_pretrained(base, str(tmp_path / "run"))
    assert loss(trained.get_base_model()) < 0.9 * before
