"""Inspects bases and adapters, before weights are loaded, for what training and merging need."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.bundle import FILE, BundleError
from service.decoding.model_files import AGAIN, ModelFolderError, Tensor, read_header, read_json
from service.decoding.model_folder import (
    ADAPTER_CONFIG,
    CAUSAL,
    CONFIG,
    ModelFolder,
    check_folder,
    look_at,
    look_at_weights,
    word_tables,
)
from service.failures import first_line
from training.finetuning.chatglm import check_converted
from training.finetuning.run_record import FILE as RECORD
from training.finetuning.run_record import is_complete

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # of the names in an adapter
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
# Of peft's kinds of adapters, those that put words into prompts: no weights can take them in.
_OF_PROMPTS = re.compile(r"PROMPT|P_TUNING|PREFIX|CPT")


def look_at_base(base: Path) -> ModelFolder:
    """Check the files of a base; takes milliseconds.

    Raises:
        ModelFolderError: there is none, it is quantised, or a file of it is missing, broken, or of
            another kind than a causal language model has.
    """
    check_converted(base)
    folder = look_at(base)
    if folder.is_quantised:
        quantization = folder.config.get("quantization_config")
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
        raise ModelFolderError(
            f"{base / CONFIG}: the base is quantised ({method or 'as its weights show'}), and an "
            "adapter cannot be merged into quantised weights",
            "use the model that it was made from",
        )
    return folder


def config_of(base: Path) -> "PretrainedConfig":
    """The configuration of a base, as transformers reads it.

    Raises:
        ModelFolderError: transformers has no causal language model of it.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    path = base / CONFIG
    raw_config = read_json(path)
    kind = raw_config.get("model_type")
    if kind is None:
        raise ModelFolderError(f"{path}: has no model_type", AGAIN)
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not raw_config.get("is_decoder"):
        raise ModelFolderError(f"{path}: {kind} is an encoder", CAUSAL)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if raw_config.get("auto_map"):
            raise ModelFolderError(
                f"{path}: {kind} needs code from the model's folder, which is not run", CAUSAL
            )
        raise ModelFolderError(
            f"{path}: transformers has no causal language model called {kind}", CAUSAL
        )
    _check_dtype(path, raw_config)
    with loading(path, "fetch it again from the source of the base"):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            base, local_files_only=True, trust_remote_code=False
        )
    return config


def without_weights(base: Path, config: "PretrainedConfig | None" = None) -> "PreTrainedModel":
    """The model that a base's configuration describes, on the meta device; its weights fit it.

    Raises:
        ModelFolderError: there is none, or the weights are of another one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if config is None:
        config = config_of(base)
    again = "fetch or copy configuration and weights from the same source"
    with loading(base / CONFIG, again), torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    tensors, _ = look_at_weights(base)
    if problem := _misfit(model, tensors):
        raise ModelFolderError(f"{base / CONFIG}: {problem}", again)
    return model


def look_at_adapter(adapter: Path) -> Mapping[str, Tensor] | None:
    """Check the files that training wrote.

    Returns:
        The adapter's tensors; None where all of a model's weights were trained.

    Raises:
        BundleError: the folder is not one that a merge takes, or the run is not finished.
        ModelFolderError: a file is missing or broken.
    """
    write = "name the folder that `instructerc-train train` wrote (--out)"
    check_folder(adapter, write)
    there = {path.name for path in adapter.iterdir()}
    if FILE not in there and ADAPTER_CONFIG in there:
        raise BundleError(
            f"{adapter / FILE}: No such file or directory: the adapter does not say what it was "
            "trained on",
            f"`instructerc-train train` writes it; for an adapter from elsewhere write a {FILE} "
            "like that of data/adapters/erc-mini, with the adapter's base, template, window and "
            "labels",
        )
    if FILE not in there and CONFIG in there:
        raise BundleError(f"{adapter}: is a model, not an adapter", write)
    if RECORD in there and not is_complete(adapter):
        raise BundleError(
            f"{adapter}: its training is not finished", "run the same `train` again: it resumes"
        )
    if ADAPTER_WEIGHTS in there:
        _check_mergeable(adapter / ADAPTER_CONFIG)
        return read_header(adapter / ADAPTER_WEIGHTS)[0]
    if FILE in there and not any(adapter.glob("model*.safetensors")):
        bin_ = "adapter_model.bin"
        raise BundleError(
            f"{adapter}: contains neither {ADAPTER_WEIGHTS} nor the weights of a whole model",
            f"{bin_} is not read, because loading it may run code: if you trust it, save it as "
            "safetensors"
            if bin_ in there
            else "fetch or copy its files again",
        )
    if CONFIG in there:
        look_at_weights(adapter)
    return None


def check_fits(
    adapter: Path, tensors: Mapping[str, Tensor], base: Path, model: "PreTrainedModel"
) -> None:
    """Check that an adapter changes modules that the base has.

    Args:
        tensors: the adapter's.
        model: the base's, whose weights need not be there.

    Raises:
        BundleError: it changes modules that the base does not have, or has in other shapes.
    """
    from torch import nn

    modules = dict(model.named_modules())
    patterns = {_pattern(name) for name in modules}
    changed = {
        name.removeprefix(PREFIX).partition(".lora_")[0]
        for name in tensors
        if name.startswith(PREFIX) and ".lora_" in name
    }
    absent = sorted(name for name in changed if name not in modules)
    # Of names that are all others, libraries may have changed them, and know.
    of_fewer = [name for name in absent if _pattern(name) in patterns]
    another = f"name the base that it was trained on, which is in {ADAPTER_CONFIG} or {FILE}"
    if absent and (of_fewer or len(absent) == len(changed)):
        raise BundleError(
            f"{adapter}: changes {(of_fewer or absent)[0]}, which {base} does not have", another
        )
    for name, tensor in tensors.items():
        path, _, kind = name.removeprefix(PREFIX).partition(".lora_")
        module = modules.get(path)
        if not isinstance(module, nn.Linear) or len(tensor.shape) != 2:
            continue
        ours = {"A.weight": (1, module.in_features), "B.weight": (0, module.out_features)}
        if kind in ours and tensor.shape[ours[kind][0]] != ours[kind][1]:
            raise BundleError(
                f"{adapter / ADAPTER_WEIGHTS}: {name} has size {tensor.shape[ours[kind][0]]}, but "
                f"the module in {base} has {ours[kind][1]}",
                another,
            )


@contextmanager
def loading(path: Path, remedy: str) -> Iterator[None]:
    """Turn any error of transformers on a file or folder into one line.

    Raises:
        ModelFolderError: for every error but a lack of memory.
    """
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # its errors have no common root
        raise ModelFolderError(
            f"{path}: transformers cannot make a model from it: {type(error).__name__}: "
            f"{first_line(error).rstrip('.')}",
            remedy,
        ) from error


def _check_dtype(path: Path, raw_config: Mapping[str, Any]) -> None:
    import torch

    for key in ("dtype", "torch_dtype"):
        name = raw_config.get(key)
        if isinstance(name, str) and name != "auto":
            kind = getattr(torch, name.removeprefix("torch."), None)
            if not isinstance(kind, torch.dtype):
                raise ModelFolderError(
                    f"{path}: {key}: {name!r} is not a torch type",
                    "write the type of the weights: bfloat16, float16 or float32",
                )


def _check_mergeable(path: Path) -> None:
    config = read_json(path)
    kind, task = str(config.get("peft_type", "LORA")), config.get("task_type")
    if _OF_PROMPTS.search(kind):
        raise BundleError(
            f"{path}: peft_type {kind} adds to prompts and cannot be merged", "train with LoRA"
        )
    if task not in (None, "CAUSAL_LM"):
        raise BundleError(
            f"{path}: task_type {task} is not that of a causal language model",
            "train with CAUSAL_LM",
        )


def _misfit(model: "PreTrainedModel", tensors: Mapping[str, Tensor]) -> str | None:
    """Why weights are of another model, if they are.

    Only where the names are the ones that transformers has now: for others it knows the old names.
    """
    parameters = dict(model.named_parameters())
    patterns = {_pattern(name) for name in tensors}
    for name, parameter in parameters.items():
        tensor = tensors.get(name)
        if tensor is not None and tensor.shape != tuple(parameter.shape):
            ours, theirs = list(parameter.shape), list(tensor.shape)
            return f"it gives {name} the shape {ours}, but the weights have {theirs}"
    ignored = [re.compile(each) for each in model._keys_to_ignore_on_load_missing or ()]
    head = getattr(model.get_output_embeddings(), "weight", None)
    words = getattr(model.get_input_embeddings(), "weight", None)
    has_words = any(each is words and name in tensors for name, each in parameters.items())
    # A head may have another name in the file than in the model.
    tables = word_tables(tensors)
    others = {tensor.shape for name, tensor in tensors.items() if name not in tables}
    for name, parameter in parameters.items():
        if name not in tensors and not any(each.search(name) for each in ignored):
            if _NUMBER.search(name) and _pattern(name) in patterns:
                return f"it defines {name}, which the weights do not have"
            shape = tuple(parameter.shape)
            if parameter is head and has_words and shape not in others:
                return f"the weights have no {name}: they are not those of a language model"
    return None


def _pattern(name: str) -> str:
    return _NUMBER.sub("#", name)
