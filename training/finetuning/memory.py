"""The memory that training takes on a GPU, and whether activations are to be computed again."""

import logging
import os
from typing import TYPE_CHECKING

from training.finetuning.sharding import shards_weights
from training.recipe import Lora, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

# Bytes that a layer keeps of a token for the backward pass, for each of its hidden size and of its
# intermediate size: what autograd keeps of a Llama with an adapter on its attention, 34 and 6 in
# bfloat16, and a quarter more for what kernels need besides.
_KEPT_OF_HIDDEN, _KEPT_OF_INTERMEDIATE = 43, 8
# A trained number, its gradient and Adam's two, in float32.
_TRAINED = 16
_LIBRARIES = 1.5e9  # CUDA's context, workspaces of matrix products
_USABLE = 0.9  # share of a GPU's memory: blocks of other sizes lie between those in use
_GB = 1e9


def needed_bytes(recipe: Recipe, model: "PreTrainedModel", *, recompute: bool) -> float:
    """Estimate the memory of a recipe's largest batch.

    Llama-2-7B with the recipe `instructerc` (4,096 tokens): 50 GB, and 17 with recomputation.

    Args:
        model: the base; its weights need not be there.
        recompute: whether only each layer's input is kept, and one layer's activations at a time.
    """
    config = model.config.get_text_config()
    hidden: int = config.hidden_size
    intermediate = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", None)
    of_layer = _KEPT_OF_HIDDEN * hidden + _KEPT_OF_INTERMEDIATE * (intermediate or 4 * hidden)
    layers: int = config.num_hidden_layers
    tokens = max((stage.tokens_per_batch for stage in recipe.stages), default=0)
    kept = of_layer + layers * 2 * hidden if recompute else layers * of_layer
    numbers = model.num_parameters()
    trained = numbers if recipe.lora is None else _trained(recipe.lora, model)
    weights = numbers * (2 if recipe.dtype == "bfloat16" else 4) + trained * _TRAINED
    return float(weights + tokens * kept + _LIBRARIES)


def recomputes(recipe: Recipe, model: "PreTrainedModel") -> bool:
    """Whether activations are computed again: as the recipe says, else where there is no room.

    Args:
        model: the base; its weights need not be there.
    """
    import torch

    if recipe.gradient_checkpointing is not None:
        return recipe.gradient_checkpointing
    if not torch.cuda.is_available():
        return False
    room = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    if shards_weights(os.environ):  # each process holds a share of them; how much, varies
        log.info("gradient_checkpointing: is on, for weights that are sharded are large")
        return True
    needed = needed_bytes(recipe, model, recompute=False)
    recompute = needed > _USABLE * room
    log.info(
        "activations are %s: about %.0f GB are needed to keep them, %.0f without; the GPU has %.0f",
        "computed again in the backward pass" if recompute else "kept",
        needed / _GB,
        needed_bytes(recipe, model, recompute=True) / _GB,
        room / _GB,
    )
    return recompute


def _trained(lora: Lora, model: "PreTrainedModel") -> int:
    """Numbers in an adapter."""
    from torch import nn

    count = 0
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if name in lora.whole:
            count += sum(parameter.numel() for parameter in module.parameters())
        elif name in lora.targets and isinstance(module, nn.Linear):
            count += lora.rank * (module.in_features + module.out_features)
    return count
