"""Sound bases of every kind that tests make pass the look that refuses broken ones."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    MambaConfig,
    MixtralConfig,
    Qwen3NextConfig,
)

from service.conversation.labels import LabelSpace
from service.decoding.model_files import ModelFolderError
from service.decoding.model_folder import INDEX
from service.decoding.tokenizer import load_tokenizer
from tests.broken_folders import changed
from tests.training.conftest import WriteBase
from tests.training.miniature import FAMILIES
from tests.training.miniature import write_base as write_miniature
from training.finetuning.model_inspection import look_at_base, without_weights

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
}
OTHERS = {
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=2),  # not linear layers; a mask among them
    "gpt-neox": GPTNeoXConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    ),
    "gemma3": Gemma3TextConfig(**TINY, head_dim=16, tie_word_embeddings=True),
    "mixtral": MixtralConfig(**TINY, num_local_experts=2),  # experts are stored one by one
    "mamba": MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4),
    "qwen3-next": Qwen3NextConfig(  # layers of two kinds, one of them recurrent
        **TINY,
        head_dim=16,
        layer_types=["linear_attention", "full_attention"],
        num_experts=0,
        mlp_only_layers=[0, 1],
        linear_num_value_heads=2,
        linear_num_key_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
    ),
}


def passes(base: Path) -> None:
    look_at_base(base)
    without_weights(base)
    load_tokenizer(base)


@pytest.mark.parametrize("family", FAMILIES)
def test_bases_of_the_shipped_recipes_families_pass(
    family: str, spaces: Mapping[str, LabelSpace], tmp_path: Path
) -> None:
    write_miniature(tmp_path, family, spaces)

    passes(tmp_path)


@pytest.mark.parametrize("kind", OTHERS)
def test_bases_of_other_kinds_pass(kind: str, write_base: WriteBase, tmp_path: Path) -> None:
    """As transformers writes them, and in shards."""
    write_base(tmp_path / "base", 1, OTHERS[kind])
    passes(tmp_path / "base")

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    AutoTokenizer.from_pretrained(tmp_path / "base").save_pretrained(tmp_path / "shards")
    assert (tmp_path / "shards" / INDEX).is_file()
    passes(tmp_path / "shards")


def test_base_built_here_passes(minilm_base: Path) -> None:
    passes(minilm_base)


@pytest.mark.parametrize("more", ["pytorch_model.bin", "consolidated.safetensors", "notes.txt"])
def test_what_else_is_in_a_folder_is_let_pass(more: str, tiny_base: Path, tmp_path: Path) -> None:
    """Repositories hold the same weights in several formats; one is read."""
    shutil.copytree(tiny_base, tmp_path / "base")
    (tmp_path / "base" / more).write_bytes(b"not looked at")

    passes(tmp_path / "base")


def test_more_rows_than_tokens_pass(write_base: WriteBase, tiny_base: Path, tmp_path: Path) -> None:
    """Tables are filled up to round numbers."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    model.resize_token_embeddings(30528)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(tmp_path)

    passes(tmp_path)


def test_configuration_without_architectures_passes(tiny_base: Path, tmp_path: Path) -> None:
    """Its model_type is enough to train by."""
    shutil.copytree(tiny_base, tmp_path / "base")
    path = tmp_path / "base" / "config.json"
    described = json.loads(path.read_text())
    del described["architectures"]
    path.write_text(json.dumps(described))

    passes(tmp_path / "base")


def test_token_of_a_picture_needs_no_row(tiny_base: Path, tmp_path: Path) -> None:
    """Gemma 3 shares a tokenizer with models that see; words added to it are another matter."""
    shutil.copytree(tiny_base, tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    tokenizer.add_tokens([AddedToken("<image_soft_token>", special=True)])
    tokenizer.save_pretrained(tmp_path / "base")
    changed("tokenizer_config.json", image_token="<image_soft_token>")(tmp_path / "base")
    assert len(tokenizer) == 30523

    passes(tmp_path / "base")

    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    tokenizer.save_pretrained(tmp_path / "base")
    changed("tokenizer_config.json", image_token="<image_soft_token>")(tmp_path / "base")
    with pytest.raises(ModelFolderError, match=r"none for 1 of the tokens, such as '<fill>' \(3"):
        passes(tmp_path / "base")
