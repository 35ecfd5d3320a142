"""Merges an adapter into its base tensor by tensor, in the memory of one file of the result.

A model of 70 billion parameters takes 276 GB in float32. Here each of its tensors is read, changed,
rounded and written by itself. What an adapter changes is peft's to compute: its layers are put onto
a model of the base's shapes, and each merges when it gets the numbers.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service.decoding.model_files import Tensor as Header
from service.decoding.model_files import read_json
from service.decoding.model_folder import ADAPTER_CONFIG, INDEX, WHOLE, look_at_weights
from training.finetuning.model_inspection import ADAPTER_WEIGHTS, PREFIX

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# Of a file of the result, in bytes; so much is held in memory.
FILE_BYTES = 5 * 10**9

# What an adapter may have that changes more than the matrix of one layer.
_OTHER_CHANGES = ("target_parameters", "trainable_token_indices", "layer_replication", "lora_bias")

Read = Callable[[str], "Tensor"]


def can_stream(
    folder: Path, adapter: Path, changes: Mapping[str, Header] | None, model: "PreTrainedModel"
) -> bool:
    """Whether each tensor of the result is made of one of the base's, by the same name.

    It is not where transformers renames or joins tensors when it loads them, as it does the experts
    of a mixture, nor where an adapter changes weights that are tied or adds to them otherwise than
    LoRA does.

    Args:
        folder: of the weights to write, or to change.
        changes: the adapter's tensors; None if there is no adapter.
        model: of these weights, on the meta device.
    """
    names = tensor_names(model)
    tensors, _ = look_at_weights(folder)
    if not tensors.keys() >= {*names}:
        return False
    if changes is None:
        return True
    config = read_json(adapter / ADAPTER_CONFIG)
    if config.get("peft_type", "LORA") != "LORA" or any(map(config.get, _OTHER_CHANGES)):
        return False
    if config.get("init_lora_weights", True) not in (True, False, "gaussian"):
        return False  # its layers may begin with a change of the base
    whole = {_base_name(name) for name in changes if _is_whole(name)}
    layers = {_base_name(name).partition(".lora_")[0] for name in changes if ".lora_" in name}
    tied = {*(model.all_tied_weights_keys or {}), *(model.all_tied_weights_keys or {}).values()}
    changed = {f"{layer}.weight" for layer in layers}
    return {*names} >= changed | whole and not changed & whole and not tied & (changed | whole)


def tensor_names(model: "PreTrainedModel") -> list[str]:
    """The tensors that transformers saves of a model; of those that are tied, the first."""
    ignored = set(model._keys_to_ignore_on_save or ())
    names = [name for name, _ in model.named_parameters()]
    buffers = dict(model.named_buffers()).keys() & model.state_dict().keys()
    return [name for name in (*names, *sorted(buffers)) if name not in ignored]


def write_merged(
    folder: Path,
    adapter: Path | None,
    model: "PreTrainedModel",
    out: Path,
    file_bytes: int = FILE_BYTES,
) -> None:
    """Write the weights of a base with an adapter, rounded to bfloat16, as transformers would.

    Args:
        folder: holds the base's weights.
        adapter: None: the weights are written as they are.
        model: the base's, on the meta device; it is of no use afterwards.

    Raises:
        ValueError: the adapter makes weights that are no numbers.
    """
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    state, parameters = model.state_dict(), model.num_parameters()
    rounded = {
        name: state[name].to(torch.bfloat16) if state[name].is_floating_point() else state[name]
        for name in tensor_names(model)
    }
    split = split_torch_state_dict_into_shards(
        rounded, filename_pattern="model{suffix}.safetensors", max_shard_size=file_bytes
    )
    with _reading(folder) as read:
        merged = read if adapter is None else _merging(model, adapter, read)
        for file, names in split.filename_to_tensors.items():
            tensors = {name: merged(name).to(rounded[name].dtype).contiguous() for name in names}
            save_file(tensors, out / file, {"format": "pt"})
            del tensors
    if split.is_sharded:
        index = {
            "metadata": {"total_parameters": parameters, **split.metadata},
            "weight_map": split.tensor_to_filename,
        }
        (out / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")


@contextmanager
def _reading(folder: Path) -> Iterator[Read]:
    """A function that reads a tensor of a folder's weights by its name, as float32."""
    from safetensors import safe_open

    if (folder / WHOLE).is_file():
        paths = [folder / WHOLE]
    else:
        places: Mapping[str, str] = read_json(folder / INDEX)["weight_map"]
        paths = sorted({folder / file for file in places.values()})
    with ExitStack() as opened:
        files = [opened.enter_context(safe_open(path, framework="pt")) for path in paths]
        holders = {name: file for file in files for name in file.keys()}  # noqa: SIM118, no mapping

        def read(name: str) -> "Tensor":
            tensor: Tensor = holders[name].get_tensor(name)
            return tensor.float() if tensor.is_floating_point() else tensor

        yield read


def _merging(model: "PreTrainedModel", adapter: Path, read: Read) -> Read:
    """A function that reads a tensor of the base, changed by the adapter."""
    import peft
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer
    from safetensors.torch import load_file
    from torch.nn import Parameter

    for module in model.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            # A matrix of one number that is repeated takes no memory; what is smaller than a
            # matrix, peft may load with the adapter.
            numbers = torch.zeros(1 if parameter.ndim > 1 else parameter.shape)
            shaped = numbers.expand(parameter.shape)
            module.register_parameter(name, Parameter(shaped, requires_grad=False))
    adapted = peft.PeftModel.from_pretrained(model, str(adapter))
    layers = {
        path: module
        for path, module in adapted.get_base_model().named_modules()
        if isinstance(module, BaseTunerLayer)
    }
    whole = {
        _base_name(name): tensor
        for name, tensor in load_file(adapter / ADAPTER_WEIGHTS).items()
        if _is_whole(name)
    }

    def merged(name: str) -> "Tensor":
        if name in whole:
            trained: Tensor = whole[name].float()
            return trained
        path, _, kind = name.rpartition(".")
        if path not in layers or kind != "weight":
            return read(name)
        layer = layers[path]
        base = layer.get_base_layer()
        shape, base.weight = base.weight, Parameter(read(name), requires_grad=False)
        layer.merge(safe_merge=True)
        result: Tensor = base.weight.data
        base.weight = shape
        return result

    return merged


def _is_whole(name: str) -> bool:
    """Whether an adapter's tensor takes the place of one of the base's, and is no copy of such."""
    parts = name.split(".")
    return ".lora_" not in name and not {"modules_to_save", "original_module"} & {*parts}


def _base_name(name: str) -> str:
    """The base's name of an adapter's tensor, or of the layer that it changes with what follows."""
    return name.removeprefix(PREFIX).replace(".base_layer.", ".")
