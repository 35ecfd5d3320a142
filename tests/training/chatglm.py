"""Small ChatGLMs as they are published: names, packing and tokenizer; and what they compute."""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sentencepiece import SentencePieceTrainer
from torch import Tensor
from torch.nn.functional import linear, silu

from tests.training.miniature import sentences

# What ChatGLM2-6B's config.json says, but for names of its code.
CHATGLM2_6B: Mapping[str, Any] = {
    "architectures": ["ChatGLMModel"],
    "model_type": "chatglm",
    "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "eos_token_id": 2,
    "ffn_hidden_size": 13696,
    "fp32_residual_connection": False,
    "hidden_dropout": 0.0,
    "hidden_size": 4096,
    "kv_channels": 128,
    "layernorm_epsilon": 1e-05,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "num_layers": 28,
    "original_rope": True,
    "pad_token_id": 0,
    "padded_vocab_size": 65024,
    "post_layer_norm": True,
    "pre_seq_len": None,
    "prefix_projection": False,
    "quantization_bit": 0,
    "rmsnorm": True,
    "seq_length": 32768,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 65024,
}
# Of ChatGLM-6B's, which is another model.
CHATGLM_6B: Mapping[str, Any] = {
    "architectures": ["ChatGLMModel"],
    "model_type": "chatglm",
    "auto_map": {"AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration"},
    "bos_token_id": 130004,
    "eos_token_id": 130005,
    "gmask_token_id": 130001,
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "layernorm_epsilon": 1e-05,
    "mask_token_id": 130000,
    "max_sequence_length": 2048,
    "num_attention_heads": 32,
    "num_layers": 28,
    "pad_token_id": 3,
    "position_encoding_2d": True,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 130528,
}
PIECES = 420
TINY: Mapping[str, Any] = {
    **CHATGLM2_6B,
    "ffn_hidden_size": 96,
    "hidden_size": 128,
    "kv_channels": 32,
    "multi_query_group_num": 2,
    "num_attention_heads": 4,
    "num_layers": 2,
    "padded_vocab_size": 448,
    "seq_length": 2048,
    "vocab_size": 448,
}
# What their code does with `rope_ratio`, in a file that must not be run.
STRETCHED = "    base = base * self.rope_ratio\n"  # ChatGLM3-6B-32K, GLM-4-9B
INTERPOLATED = "    seq_idx = torch.arange(seq_len, dtype=dtype) / self.rope_ratio\n"  # ChatGLM2's


def random_weights(config: Mapping[str, Any], seed: int = 1) -> dict[str, Tensor]:
    """By published name, so large that what attends to what decides the answer."""
    width, inner = config["hidden_size"], config["ffn_hidden_size"]
    queries = config["num_attention_heads"] * config["kv_channels"]
    qkv = queries + 2 * config["multi_query_group_num"] * config["kv_channels"]
    words = config["padded_vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.embedding.word_embeddings.weight": (words, width),
        "transformer.encoder.final_layernorm.weight": (width,),
        "transformer.output_layer.weight": (words, width),
    }
    for number in range(config["num_layers"]):
        layer = f"transformer.encoder.layers.{number}."
        shapes |= {
            f"{layer}input_layernorm.weight": (width,),
            f"{layer}self_attention.query_key_value.weight": (qkv, width),
            f"{layer}self_attention.query_key_value.bias": (qkv,),
            f"{layer}self_attention.dense.weight": (width, queries),
            f"{layer}post_attention_layernorm.weight": (width,),
            f"{layer}mlp.dense_h_to_4h.weight": (2 * inner, width),
            f"{layer}mlp.dense_4h_to_h.weight": (width, inner),
        }
    generator = torch.Generator().manual_seed(seed)
    tensors = {n: torch.randn(s, generator=generator) * 0.15 for n, s in shapes.items()}
    for name in tensors:
        if name.endswith("layernorm.weight"):
            tensors[name] += 1
    # A table that is computed, and that the published files hold all the same.
    tensors["transformer.rotary_pos_emb.inv_freq"] = torch.ones(config["kv_channels"] // 4)
    return tensors


def computed(
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    ids: Tensor,
    base: float = 10_000.0,
    step: float = 1.0,
) -> Tensor:
    """ChatGLM2's logits for one text, shape (tokens, words), as its published code has them.

    Written anew from that code: a head's first half is turned in neighbouring pairs, groups of
    queries share a key and a value, a token sees itself and those before it.

    Args:
        base: of the rotary angles.
        step: between two positions.
    """
    heads, size = config["num_attention_heads"], config["kv_channels"]
    groups, epsilon = config["multi_query_group_num"], config["layernorm_epsilon"]
    turned = size // 2
    angles = torch.outer(
        torch.arange(len(ids)) * step, base ** -(torch.arange(0, turned, 2) / turned)
    )
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]

    def norm(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weights[name]

    def turn(x: Tensor) -> Tensor:
        even, odd = x[..., :turned:2], x[..., 1:turned:2]
        pairs = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
        return torch.cat([pairs.flatten(-2), x[..., turned:]], -1)

    hidden = weights["transformer.embedding.word_embeddings.weight"][ids]
    seen = torch.ones(len(ids), len(ids)).tril().bool()
    for number in range(config["num_layers"]):
        layer = f"transformer.encoder.layers.{number}."
        x = norm(hidden, f"{layer}input_layernorm.weight")
        packed = f"{layer}self_attention.query_key_value."
        mixed = linear(x, weights[f"{packed}weight"], weights[f"{packed}bias"])
        query, key, value = torch.split(mixed, [heads * size, groups * size, groups * size], -1)
        query = turn(query.view(-1, heads, size))
        key = turn(key.view(-1, groups, size)).repeat_interleave(heads // groups, 1)
        value = value.view(-1, groups, size).repeat_interleave(heads // groups, 1)
        scores = torch.einsum("qhd,khd->hqk", query, key) / size**0.5
        shares = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        attended = torch.einsum("hqk,khd->qhd", shares, value).flatten(1)
        hidden = hidden + linear(attended, weights[f"{layer}self_attention.dense.weight"])
        x = norm(hidden, f"{layer}post_attention_layernorm.weight")
        gate, up = linear(x, weights[f"{layer}mlp.dense_h_to_4h.weight"]).chunk(2, -1)
        hidden = hidden + linear(silu(gate) * up, weights[f"{layer}mlp.dense_4h_to_h.weight"])
    hidden = norm(hidden, "transformer.encoder.final_layernorm.weight")
    return linear(hidden, weights["transformer.output_layer.weight"])


def pieces(*more: str, **options: Any) -> bytes:
    """A model of sentencepiece's, as ChatGLM2's is but for its size.

    Args:
        more: texts that it learns from, too.
    """
    trained = io.BytesIO()
    texts = [*sentences()][:600]
    texts += ["今天天气很好，我们去公园吧。", "你好，世界", "We won! I am so happy!", *more] * 20
    wanted: dict[str, Any] = {
        "model_type": "bpe",
        "vocab_size": PIECES,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "minloglevel": 2,
    }
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=trained, **(wanted | options)
    )
    return trained.getvalue()


def ranks(words: Iterable[str]) -> bytes:
    """A list of tiktoken's, as GLM-4-9B's is: all bytes, and what words are joined of."""
    tokens = [bytes([number]) for number in range(256)]
    for word in words:
        data = word.encode()
        tokens += [data[:end] for end in range(2, len(data) + 1)]
    known = dict.fromkeys(tokens)
    return b"".join(base64.b64encode(t) + b" %d\n" % n for n, t in enumerate(known))


def write_chatglm(
    folder: Path,
    config: Mapping[str, Any] = TINY,
    tokenizer: bytes | None = None,
    weights: Mapping[str, Tensor] | None = None,
    *,
    shards: int = 1,
    pickled: bool = False,
    code: str = "",
) -> Path:
    """Write a model as it is published, with code in it that must not be run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_bytes(pieces() if tokenizer is None else tokenizer)
    for name in ("modeling", "configuration", "tokenization"):
        text = "raise SystemExit('this code is run')\n" + code
        (folder / f"{name}_chatglm.py").write_text(text)
    auto_map = {"AutoTokenizer": ["tokenization_chatglm.ChatGLMTokenizer", None]}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "ChatGLMTokenizer", "auto_map": auto_map})
    )
    tensors = random_weights(config) if weights is None else dict(weights)
    _write_weights(folder, tensors, shards, pickled)
    return folder


def _write_weights(folder: Path, weights: Mapping[str, Tensor], shards: int, pickled: bool) -> None:
    name, ending = ("pytorch_model", "bin") if pickled else ("model", "safetensors")
    files: Sequence[str] = [f"{name}.{ending}"]
    if shards > 1:
        files = [f"{name}-{n:05}-of-{shards:05}.{ending}" for n in range(1, shards + 1)]
        weight_map = {each: files[n % shards] for n, each in enumerate(weights)}
        described = {"metadata": {}, "weight_map": weight_map}
        (folder / f"{name}.{ending}.index.json").write_text(json.dumps(described))
    for number, file in enumerate(files):
        held = {each: t for n, (each, t) in enumerate(weights.items()) if n % shards == number}
        if pickled:
            torch.save(held, folder / file)
        else:
            save_file(held, folder / file)
