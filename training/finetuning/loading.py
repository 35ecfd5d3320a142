"""Loads the model that a stage trains, or that a finished one left."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.model_files import AGAIN
from service.decoding.precision import ComputeType
from training.finetuning.adapters import dropout_key, lora_config
from training.finetuning.model_inspection import loading
from training.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_model(
    recipe: Recipe,
    base: Path,
    finished: Path | None,
    compute: ComputeType,
    dropout: float | None = None,
    *,
    recompute: bool = False,
) -> tuple[Any, "PreTrainedModel"]:
    """Load the model to train, from a finished stage if there is one; also its language model.

    Args:
        finished: the folder of that stage's adapter, or of its weights where all are trained.
        compute: what it is to be computed in; float32 is that of the weights, too.
        dropout: of the base's layers, in place of its own.
        recompute: whether its activations are to be computed again in the backward pass.
    """
    import peft
    import torch
    from transformers import AutoConfig

    whole = recipe.lora is None
    folder = finished if whole and finished else base
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if dropout is not None and (key := dropout_key(config)) is not None:
        setattr(config, key, dropout)
    causal = load_causal(folder, compute, config=config, dtype=getattr(torch, recipe.dtype))
    if recipe.lora is None:
        return causal, causal
    if finished is not None:
        model = peft.PeftModel.from_pretrained(causal, str(finished), is_trainable=True)
    else:
        model = peft.get_peft_model(causal, lora_config(recipe.lora))
    if recompute:
        model.enable_input_require_grads()
    return model, model.get_base_model()


def load_causal(folder: Path, compute: ComputeType, **options: Any) -> "PreTrainedModel":
    """Load the causal language model in a folder, without an adapter.

    Args:
        compute: what it is to be computed in; float32 is that of the weights, too.
        options: transformers' own, such as `dtype`.
    """
    from transformers import AutoModelForCausalLM

    with loading(folder, AGAIN):
        causal: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, **options
        )
    if compute == "float32":
        causal.float()
    return causal


def check_compiler() -> None:
    """Check that there is what `compile_layers` needs.

    Raises:
        ValueError: there is no C++ compiler.
    """
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        raise ValueError(f"compiling needs {name}: install it, or name a C++ compiler in CXX")


def compile_layers(causal: "PreTrainedModel") -> None:
    """Let torch.compile fuse what each layer does between its matrix products.

    A layer is compiled when it is first called, for rows of any number and length; layers that are
    alike share the code. The results differ from those of other kernels in their last digits.
    """
    layers = set(causal._no_split_modules or ())
    for module in causal.modules():
        if type(module).__name__ in layers:
            module.compile(dynamic=True)
