"""ChatGLM2, ChatGLM3 and GLM-4-9B as they were first published, made what transformers calls GLM.

They compute one block under two sets of names, with query, key and value in one tensor. What says
so is their published code, which is read by people and never run here. ChatGLM-6B computes
something else.
"""

import json
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.model_files import AGAIN, ModelFolderError, check_file, read_json
from service.decoding.model_folder import (
    CAUSAL,
    CONFIG,
    INDEX,
    check_folder,
    download_of,
    holds_weights,
    look_at_weights,
)
from training.finetuning.chatglm_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GlmConfig

COMMAND = "instructerc-train base --from"
# Bytes of a file of weights that is written, about; what is in memory at a time.
SHARD_BYTES = 2**30

_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_CODE = "modeling_chatglm.py"
# A table of their rotary positions, which follows from the configuration.
_NOT_LEARNT = {"transformer.rotary_pos_emb.inv_freq"}
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


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a ChatGLM2, by what they count.

    Attributes:
        head: numbers of a head; half of them turn with the position.
        groups: heads of keys, and of values, that the heads of queries share.
        inner: numbers between the two layers of an MLP.
        qkv_bias: whether queries, keys and values have one.
        tied: whether the output layer is the word table.
    """

    layers: int
    width: int
    heads: int
    head: int
    groups: int
    inner: int
    words: int
    positions: int
    epsilon: float
    qkv_bias: bool
    tied: bool

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each of its tensors, by the name that it is published with."""
        width, queries = self.width, self.heads * self.head
        qkv = queries + 2 * self.groups * self.head
        layer: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (width,),
            "self_attention.query_key_value.weight": (qkv, width),
            "self_attention.dense.weight": (width, queries),
            "post_attention_layernorm.weight": (width,),
            "mlp.dense_h_to_4h.weight": (2 * self.inner, width),
            "mlp.dense_4h_to_h.weight": (width, self.inner),
        }
        if self.qkv_bias:
            layer["self_attention.query_key_value.bias"] = (qkv,)
        shapes: dict[str, tuple[int, ...]] = {
            "transformer.embedding.word_embeddings.weight": (self.words, width),
            "transformer.encoder.final_layernorm.weight": (width,),
        }
        if not self.tied:
            shapes["transformer.output_layer.weight"] = (self.words, width)
        for number in range(self.layers):
            shapes |= {f"transformer.encoder.layers.{number}.{k}": v for k, v in layer.items()}
        return shapes

    def parts(self, name: str) -> dict[str, slice]:
        """What GLM calls a tensor, or each part of it, with the rows that are its own."""
        if name in _TABLES:
            return {_TABLES[name]: slice(None)}
        number, _, module = name.removeprefix("transformer.encoder.layers.").partition(".")
        prefix, (module, _, kind) = f"model.layers.{number}", module.rpartition(".")
        if module in _MODULES:
            return {f"{prefix}.{_MODULES[module]}.{kind}": slice(None)}
        queries, keys = self.heads * self.head, self.groups * self.head
        return {
            f"{prefix}.self_attn.q_proj.{kind}": slice(queries),
            f"{prefix}.self_attn.k_proj.{kind}": slice(queries, queries + keys),
            f"{prefix}.self_attn.v_proj.{kind}": slice(queries + keys, None),
        }


_TABLES = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_MODULES = {
    "input_layernorm": "input_layernorm",
    "self_attention.dense": "self_attn.o_proj",
    "post_attention_layernorm": "post_attention_layernorm",
    "mlp.dense_h_to_4h": "mlp.gate_up_proj",  # both have the gate first
    "mlp.dense_4h_to_h": "mlp.down_proj",
}


def check_converted(base: Path) -> None:
    """See that a folder is not one that has to be converted first, or never can be.

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
            f"{base / CONFIG}: is a ChatGLM as it was published, which needs code that comes with "
            "the model and is not run",
            f"convert it, and name what is written: `{COMMAND} {base} OUT`",
        )


def check_source(source: Path) -> Shape:
    """See that a folder can be converted; takes milliseconds and reads no weights.

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
            f"{path}: is {kind}, and only ChatGLM2, ChatGLM3 and GLM-4-9B are converted",
            "name the folder itself as the base (--base)",
        )
    if config.get("quantization_bit") or config.get("quantization_config"):
        raise ModelFolderError(
            f"{path}: the model is quantised", "take the model that it was made from"
        )
    for key, (needed, absent) in _SHAPED_AS.items():
        if (value := config.get(key, absent)) != needed:
            raise ModelFolderError(
                f"{path}: {key} is {json.dumps(value)}, and transformers' GLM has no such block",
                CAUSAL,
            )
    return _shape(path, config)


def convert(source: Path, shape: Shape, folder: Path) -> None:
    """Write the model as GLM into an empty folder; of the weights, a file at a time.

    Args:
        shape: what `check_source` returned for `source`.

    Raises:
        ModelFolderError: a file is missing, broken, or not of this model.
    """
    from transformers import GenerationConfig

    files = _weight_files(source)
    _check_tensors(source, shape, files)
    published = read_json(source / CONFIG)
    config = _glm_config(source, published, shape)
    write_tokenizer(source, folder, shape.words)
    config.dtype = _write_weights(folder, _converted(shape, files))
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
            f"take ChatGLM2-6B (`{COMMAND} FOLDER OUT`) or another causal language model",
        )


def _shape(path: Path, config: Mapping[str, Any]) -> Shape:
    def size(key: str) -> int:
        value = config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelFolderError(f"{path}: {key} is {json.dumps(value)}, and no size", AGAIN)
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
            f"{path}: {shape.heads} heads of {shape.head} numbers in {shape.groups} groups do not "
            "make a model",
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
        f"{source / CONFIG}: rope_ratio is {ratio}, and {_CODE} does not say whether positions are "
        "divided by it or their base is multiplied",
        f"fetch {_CODE} from where the model comes from: it is read, and not run",
    )


def _weight_files(source: Path) -> list[Path]:
    """The files of the weights: of safetensors, or else what torch pickled.

    Raises:
        ModelFolderError: there are none, or one is missing or broken as far as its start tells.
    """
    index = source / _PICKLED_INDEX
    pickled = sorted(source.glob("pytorch_model*.bin"))
    if holds_weights(source) or not (pickled or index.exists()):
        look_at_weights(source)
        if (source / INDEX).exists():
            listed = set(read_json(source / INDEX)["weight_map"].values())
            return [source / name for name in sorted(listed)]
        whole = source / "model.safetensors"
        return [whole] if whole.exists() else sorted(source.glob("*.safetensors"))
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ModelFolderError(f"{index}: is no index of weights (weight_map)", AGAIN)
        pickled = [source / str(name) for name in sorted({*weight_map.values()})]
    elif (source / _PICKLED).exists():
        pickled = [source / _PICKLED]
    for path in pickled:
        check_file(path)
    return pickled


def _tensors(path: Path) -> Iterator[tuple[str, "Tensor"]]:
    """The tensors of a file, each read when it is looked into.

    Raises:
        ModelFolderError: the file is broken, or more than tensors.
    """
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_tensor(name)
        return
    yield from sorted(_unpickled(path).items())


def _unpickled(path: Path) -> dict[str, "Tensor"]:
    """What torch pickled, by the loader that builds tensors and calls nothing else."""
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise ModelFolderError(
            f"{path}: holds more than tensors, and what else it says to load is not run",
            "take a revision with safetensors",
        ) from None
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        raise ModelFolderError(
            f"{path}: is no file of weights that torch reads ({type(error).__name__})", AGAIN
        ) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(t, torch.Tensor) for t in tensors.values()
    ):
        raise ModelFolderError(f"{path}: holds more than tensors by name", AGAIN)
    return tensors


def _check_tensors(source: Path, shape: Shape, files: Iterable[Path]) -> None:
    """See that the weights are all of the model's, and no others, of the published shapes."""
    expected, there = shape.tensors(), set()
    again = "fetch or copy configuration and weights from one place"
    for path in files:
        for name, size, is_float in _measured(path):
            if name in _NOT_LEARNT or (shape.tied and name == "transformer.output_layer.weight"):
                continue
            if name not in expected:
                raise ModelFolderError(
                    f"{path}: holds {name}, which is no part of the model", again
                )
            if size != expected[name]:
                raise ModelFolderError(
                    f"{source / CONFIG}: it makes {name} of the shape {[*expected[name]]}, the "
                    f"weights have {[*size]}",
                    again,
                )
            if not is_float:
                raise ModelFolderError(
                    f"{path}: {name} is quantised", "take the model that it was made from"
                )
            there.add(name)
    for name in expected:
        if name not in there:
            raise ModelFolderError(f"{source}: the weights have no {name}", again)


def _measured(path: Path) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Name and shape of each tensor of a file, and whether it is of floating-point numbers."""
    if path.suffix == ".safetensors":
        from service.decoding.model_files import read_header

        for name, tensor in read_header(path)[0].items():
            yield name, tensor.shape, tensor.dtype in ("F64", "F32", "F16", "BF16")
        return
    for name, weights in _unpickled(path).items():
        yield name, tuple(weights.shape), weights.is_floating_point()


def _converted(shape: Shape, files: Iterable[Path]) -> Iterator[tuple[str, "Tensor"]]:
    known = shape.tensors()
    for path in files:
        for name, tensor in _tensors(path):
            if name in known:
                for ours, rows in shape.parts(name).items():
                    # A copy, for a part would keep the whole, and a mapped file, in memory.
                    yield ours, tensor[rows].clone()


def _write_weights(folder: Path, tensors: Iterable[tuple[str, "Tensor"]]) -> Any:
    """Write files of about `SHARD_BYTES` with their index, or one without.

    Returns:
        The type of the numbers, the last tensor's.
    """
    from safetensors.torch import save_file

    weight_map: dict[str, int] = {}
    held: dict[str, Tensor] = {}
    total, size, count, dtype = 0, 0, 0, None

    def put() -> None:
        nonlocal count, size
        count += 1
        save_file(held, folder / f"{count}.safetensors", {"format": "pt"})
        weight_map.update(dict.fromkeys(held, count))
        held.clear()
        size = 0

    for name, tensor in tensors:
        if held and size + tensor.nbytes > SHARD_BYTES:
            put()
        held[name], dtype = tensor, tensor.dtype
        size += tensor.nbytes
        total += tensor.nbytes
    put()
    if count == 1:
        (folder / "1.safetensors").rename(folder / "model.safetensors")
        return dtype
    names = {n: f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)}
    for number, name in names.items():
        (folder / f"{number}.safetensors").rename(folder / name)
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: names[number] for name, number in sorted(weight_map.items())},
    }
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return dtype
