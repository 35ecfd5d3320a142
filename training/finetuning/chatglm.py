"""Converts ChatGLM2, ChatGLM3 and GLM-4-9B, as first published, to the GLM of transformers.

They compute one block under two sets of names, with query, key and value in one tensor. What says
so is their published code, which is read by people and never run here. ChatGLM-6B computes
something else.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.model_files import AGAIN, ModelFolderError, read_json
from service.decoding.model_folder import CAUSAL, CONFIG, check_folder, download_of
from training.finetuning.chatglm_tokenizer import write_tokenizer
from training.finetuning.chatglm_weights import (
    Shape,
    check_tensors,
    converted,
    weight_files,
    write_weights,
)

if TYPE_CHECKING:
    from transformers import GlmConfig

COMMAND = "instructerc-train base --from"

_CODE = "modeling_chatglm.py"
# By key: the value that GLM's block takes, and the one that an absent key means.
_SHAPED_AS: Mapping[str, tuple[object, object]] = {
    "rmsnorm": (True, True),
    "post_layer_norm": (True, True),
    "original_rope": (True, True),
    "multi_query_attention": (True, False),
    "interleaved_qkv": (False, False),
    "add_bias_linear": (False, False),
    "apply_residual_connection_post_layernorm": (False, False),
    "pre_seq_len": (None, None),
    "vision_config": (None, None),
}


def check_converted(base: Path) -> None:
    """Check that a folder holds no model that must be converted first, or cannot be.

    Raises:
        ModelFolderError: it is; a configuration that cannot be read is left to others.
    """
    try:
        config = read_json(base / CONFIG)
    except ModelFolderError:
        return
    _refuse_the_first(base, config)
    if _is_chatglm(config):
        raise ModelFolderError(
            f"{base / CONFIG}: is a ChatGLM in its published format, which needs code from the "
            "model's folder; that code is not run",
            f"convert it (`{COMMAND} {base} OUT`) and name the folder OUT",
        )


def check_source(source: Path) -> Shape:
    """Check that a folder can be converted; takes milliseconds and reads no weights.

    Raises:
        ModelFolderError: it is of another kind of model, or a file is missing or broken.
    """
    check_folder(source, download_of(source))
    path = source / CONFIG
    config = read_json(path)
    _refuse_the_first(source, config)
    if not _is_chatglm(config):
        kind = config.get("model_type") or "of an unnamed kind"
        raise ModelFolderError(
            f"{path}: is {kind}, but only ChatGLM2, ChatGLM3 and GLM-4-9B are converted",
            "name the folder itself as the base (--base)",
        )
    if config.get("quantization_bit") or config.get("quantization_config"):
        raise ModelFolderError(
            f"{path}: the model is quantised", "use the model that it was made from"
        )
    for key, (needed, absent) in _SHAPED_AS.items():
        if (value := config.get(key, absent)) != needed:
            raise ModelFolderError(
                f"{path}: {key} is {json.dumps(value)}, which transformers' GLM does not support",
                CAUSAL,
            )
    return _shape(path, config)


def convert(source: Path, shape: Shape, folder: Path) -> None:
    """Write the model as GLM into an empty folder, one file of weights at a time.

    Args:
        shape: what `check_source` returned for `source`.

    Raises:
        ModelFolderError: a file is missing, broken, or not of this model.
    """
    from transformers import GenerationConfig

    files = weight_files(source)
    check_tensors(source, shape, files)
    published = read_json(source / CONFIG)
    config = _glm_config(source, published, shape)
    write_tokenizer(source, folder, shape.words)
    config.dtype = write_weights(folder, converted(shape, files))
    config.save_pretrained(folder)
    GenerationConfig(
        eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id, do_sample=False
    ).save_pretrained(folder)


def _is_chatglm(config: Mapping[str, Any]) -> bool:
    named = config.get("architectures")
    names = named if isinstance(named, list) else []
    return config.get("model_type") == "chatglm" or any(
        str(name).startswith("ChatGLM") for name in names
    )


def _refuse_the_first(folder: Path, config: Mapping[str, Any]) -> None:
    """
    Raises:
        ModelFolderError: it is ChatGLM-6B, or one of the GLMs before it.
    """
    two = config.get("position_encoding_2d") or config.get("block_position_encoding")
    of_6b = "inner_hidden_size" in config and "ffn_hidden_size" not in config
    if two or (_is_chatglm(config) and of_6b):
        raise ModelFolderError(
            f"{folder / CONFIG}: is ChatGLM-6B or another of the first GLMs, which read a prompt "
            "in both directions and count positions in two dimensions: neither transformers nor "
            "vLLM has such a model, and no conversion makes another compute that",
            f"use ChatGLM2-6B (`{COMMAND} FOLDER OUT`) or another causal language model",
        )


def _shape(path: Path, config: Mapping[str, Any]) -> Shape:
    def size(key: str) -> int:
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelFolderError(
                f"{path}: {key} is {json.dumps(value)}, which is not a size", AGAIN
            )
        return value

    epsilon = config.get("layernorm_epsilon", 1e-5)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ModelFolderError(f"{path}: layernorm_epsilon is {json.dumps(epsilon)}", AGAIN)
    shape = Shape(
        layers=size("num_layers"),
        width=size("hidden_size"),
        heads=size("num_attention_heads"),
        head=size("kv_channels"),
        groups=size("multi_query_group_num"),
        inner=size("ffn_hidden_size"),
        words=size("padded_vocab_size"),
        positions=size("seq_length"),
        epsilon=epsilon,
        qkv_bias=bool(config.get("add_qkv_bias", False)),
        tied=bool(config.get("tie_word_embeddings", False)),
    )
    if shape.heads % shape.groups or shape.head % 4:
        raise ModelFolderError(
            f"{path}: {shape.heads} heads of size {shape.head} in {shape.groups} groups do not "
            "fit together",
            AGAIN,
        )
    return shape


def _glm_config(source: Path, published: Mapping[str, Any], shape: Shape) -> "GlmConfig":
    from transformers import GlmConfig

    return GlmConfig(
        architectures=["GlmForCausalLM"],
        vocab_size=shape.words,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        head_dim=shape.head,
        max_position_embeddings=shape.positions,
        rms_norm_eps=shape.epsilon,
        attention_bias=shape.qkv_bias,
        tie_word_embeddings=shape.tied,
        rope_parameters=_rope(source, published),
        bos_token_id=None,
        eos_token_id=published.get("eos_token_id", 2),
        pad_token_id=published.get("pad_token_id", 0),
    )


def _rope(source: Path, published: Mapping[str, Any]) -> dict[str, Any]:
    """How positions turn the first half of each head.

    `rope_ratio` divides the positions of ChatGLM2-6B-32K, and multiplies the base of those after
    it. Nothing but the code that comes with the model tells which, so its text is looked at.
    """
    rope: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.5,
    }
    ratio = published.get("rope_ratio", 1)
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or ratio <= 0:
        raise ModelFolderError(f"{source / CONFIG}: rope_ratio is {json.dumps(ratio)}", AGAIN)
    if ratio == 1:
        return rope
    code = source / _CODE
    text = code.read_text(encoding="utf-8", errors="replace") if code.is_file() else ""
    plain = "".join(text.split())
    if "base*self.rope_ratio" in plain:
        return rope | {"rope_theta": 10_000.0 * ratio}
    if "/self.rope_ratio" in plain:
        return rope | {"rope_type": "linear", "factor": float(ratio)}
    raise ModelFolderError(
        f"{source / CONFIG}: rope_ratio is {ratio}, but {_CODE} does not show whether it divides "
        "positions or multiplies their base",
        f"fetch {_CODE} from the source of the model: it is read but not run",
    )
