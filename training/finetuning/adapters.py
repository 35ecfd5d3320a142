"""Adapters of recipes, and checks that a merge into the base keeps all of one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from service.files import written_whole
from training.finetuning.model_inspection import ADAPTER_WEIGHTS, config_of, without_weights
from training.recipe import Lora, Recipe, RecipeError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


def lora_config(lora: Lora) -> "LoraConfig":
    """The peft configuration of a recipe's adapter."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias=lora.bias,
        modules_to_save=list(lora.whole) or None,
    )


def name_base(adapter: Path, name: str) -> None:
    """Name the base in an adapter's configuration, if there is one, in place of a local folder.

    Call it last: when peft saves an adapter it looks up the base by this name, on a model hub if
    there is no such folder.
    """
    path = adapter / "adapter_config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = name
        with written_whole(path) as file:
            file.write(json.dumps(config, indent=2, sort_keys=True))


def check_base(recipe: Recipe, base: Path) -> None:
    """Check that the base can be trained as the recipe says, and served; reads no weights.

    Raises:
        RecipeError: prompts longer than the base reads, or an adapter on modules that it does not
            have, that are not linear, or whose weights are tied to others, which a merge would
            change too.
        ModelFolderError: the folder holds no causal language model, or weights of another one.
    """
    config = config_of(base)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and recipe.max_tokens > positions:
        raise RecipeError(
            f"recipe {recipe.name}: max_tokens: is {recipe.max_tokens}, but {base} reads at most "
            f"{positions}"
        )
    for stage in recipe.stages:
        if stage.dropout is not None and dropout_key(config) is None:
            raise RecipeError(
                f"recipe {recipe.name}: stage {stage.name}: dropout: {base} does not support it"
            )
    model = without_weights(base, config)
    if recipe.lora is None:
        return
    for key in ("targets", "whole"):
        for name in getattr(recipe.lora, key):
            problem = _problem(model, name, linear=key == "targets")
            if problem:
                raise RecipeError(f"recipe {recipe.name}: lora.{key}: {name} {problem}")


def dropout_key(config: "PretrainedConfig") -> str | None:
    """The key of a base's configuration that sets dropout of hidden states, if there is one."""
    known = (key for key in ("dropout", "hidden_dropout", "resid_pdrop") if hasattr(config, key))
    return next(known, None)


def _problem(model: "PreTrainedModel", name: str, linear: bool) -> str | None:
    """Why an adapter cannot change the modules called `name`."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    modules = dict(model.named_modules())
    matches = [m for path, m in modules.items() if path == name or path.endswith(f".{name}")]
    if not matches:
        last = {path.rpartition(".")[2] for path, m in modules.items() if isinstance(m, nn.Linear)}
        return f"is not a module of the base; its linear modules are {', '.join(sorted(last))}"
    if any(_is_tied(model, module) for module in matches):
        return "shares its weights with another module, which a merge would change too"
    if linear and not all(isinstance(module, nn.Linear | Conv1D) for module in matches):
        return "is not linear: neither vLLM nor a merge supports a low-rank change of it"
    return None


def _is_tied(model: "PreTrainedModel", module: "nn.Module") -> bool:
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return False
    return module in (model.get_input_embeddings(), model.get_output_embeddings())


def round_adapter(folder: Path) -> None:
    """Round an adapter's weights to bfloat16, which halves the file.

    A merge computes with what is there in float32 and rounds the sum, as it does with any adapter.
    """
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / ADAPTER_WEIGHTS
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    save_file(weights, path.with_suffix(".rounded"), {"format": "pt"})
    path.with_suffix(".rounded").replace(path)
