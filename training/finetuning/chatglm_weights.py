"""Reads, checks and renames the weights of ChatGLM2 and its successors."""

import json
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.model_files import AGAIN, ModelFolderError, check_file, read_header, read_json
from service.decoding.model_folder import CONFIG, INDEX, holds_weights, look_at_weights

if TYPE_CHECKING:
    from torch import Tensor

# Approximate size in bytes of a file of weights, and of what is in memory at a time.
SHARD_BYTES = 2**30

_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# A table of their rotary positions, which follows from the configuration.
_NOT_LEARNT = {"transformer.rotary_pos_emb.inv_freq"}


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
        """Tensor shapes by published name."""
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
        """GLM's names of a tensor's parts, with the rows of each."""
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


def weight_files(source: Path) -> list[Path]:
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
            raise ModelFolderError(f"{index}: is not an index of weights (weight_map)", AGAIN)
        pickled = [source / str(name) for name in sorted({*weight_map.values()})]
    elif (source / _PICKLED).exists():
        pickled = [source / _PICKLED]
    for path in pickled:
        check_file(path)
    return pickled


def _tensors(path: Path) -> Iterator[tuple[str, "Tensor"]]:
    """The tensors of a file, each read on demand.

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
            f"{path}: contains more than tensors, and nothing else in it is loaded",
            "use a revision with safetensors",
        ) from None
    except (RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        raise ModelFolderError(
            f"{path}: is not a file of weights that torch can read ({type(error).__name__})", AGAIN
        ) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(t, torch.Tensor) for t in tensors.values()
    ):
        raise ModelFolderError(f"{path}: contains more than named tensors", AGAIN)
    return tensors


def check_tensors(source: Path, shape: Shape, files: Iterable[Path]) -> None:
    """Check that the weights are exactly the model's tensors, in the published shapes."""
    expected, there = shape.tensors(), set()
    again = "fetch or copy configuration and weights from the same source"
    for path in files:
        for name, size, is_float in _measured(path):
            if name in _NOT_LEARNT or (shape.tied and name == "transformer.output_layer.weight"):
                continue
            if name not in expected:
                raise ModelFolderError(
                    f"{path}: contains {name}, which is not part of the model", again
                )
            if size != expected[name]:
                raise ModelFolderError(
                    f"{source / CONFIG}: gives {name} the shape {[*expected[name]]}, but the "
                    f"weights have {[*size]}",
                    again,
                )
            if not is_float:
                raise ModelFolderError(
                    f"{path}: {name} is quantised", "use the model that it was made from"
                )
            there.add(name)
    for name in expected:
        if name not in there:
            raise ModelFolderError(f"{source}: the weights have no {name}", again)


def _measured(path: Path) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """Name and shape of each tensor of a file, and whether it is of floating-point numbers."""
    if path.suffix == ".safetensors":
        for name, tensor in read_header(path)[0].items():
            yield name, tensor.shape, tensor.dtype in ("F64", "F32", "F16", "BF16")
        return
    for name, weights in _unpickled(path).items():
        yield name, tuple(weights.shape), weights.is_floating_point()


def converted(shape: Shape, files: Iterable[Path]) -> Iterator[tuple[str, "Tensor"]]:
    known = shape.tensors()
    for path in files:
        for name, tensor in _tensors(path):
            if name in known:
                for ours, rows in shape.parts(name).items():
                    # A copy, for a part would keep the whole, and a mapped file, in memory.
                    yield ours, tensor[rows].clone()


def write_weights(folder: Path, tensors: Iterable[tuple[str, "Tensor"]]) -> Any:
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
