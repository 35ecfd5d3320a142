"""How much memory training takes, and what becomes of a recipe that does not fit."""

from random import Random
from types import SimpleNamespace
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from tests.bench.utilisation import batch_of, llama_2_7b
from training.finetuning.adapters import lora_config
from training.finetuning.memory import needed_bytes, recomputes
from training.finetuning.packed_loss import packed_loss
from training.recipe import Recipe
from training.recipe_files import load_runs, recipe_path

GB = 10**9


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return next(iter(load_runs(recipe_path("instructerc")).values()))


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(llama_2_7b())


def test_a_7b_model_takes_50_gb_and_17_with_recomputation(
    recipe: Recipe, llama: PreTrainedModel
) -> None:
    """The figures that the recipe's documentation has."""
    assert needed_bytes(recipe, llama, recompute=False) / GB == pytest.approx(50, abs=1)
    assert needed_bytes(recipe, llama, recompute=True) / GB == pytest.approx(17, abs=1)


@pytest.mark.parametrize(
    ("memory_gb", "recompute"), [(24, True), (48, True), (80, False), (141, False)]
)
def test_what_fits_is_not_computed_again(
    memory_gb: int,
    recompute: bool,
    recipe: Recipe,
    llama: PreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would take half more operations."""
    on_a_gpu(monkeypatch, memory_gb)

    assert recomputes(recipe, llama) is recompute


@pytest.mark.parametrize("said", [True, False])
def test_what_the_recipe_says_goes(
    said: bool, recipe: Recipe, llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_gpu(monkeypatch, 24 if not said else 141)

    assert recomputes(recipe.model_copy(update={"gradient_checkpointing": said}), llama) is said


def test_sharded_weights_are_computed_again(
    recipe: Recipe, llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much of them a GPU holds is not known before."""
    on_a_gpu(monkeypatch, 141)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")

    assert recomputes(recipe, llama)


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, memory_gb: int) -> None:
    properties = SimpleNamespace(total_memory=memory_gb * GB)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: properties)


@pytest.mark.parametrize("sizes", [(256, 688), (512, 1376)])
def test_the_estimate_is_of_what_autograd_keeps(sizes: tuple[int, int], recipe: Recipe) -> None:
    """A layer's, without its weights; the estimate has a quarter more, for kernels of a GPU."""
    kept = [kept_bytes(*sizes, layers, recipe) for layers in (1, 3)]
    estimated = [
        needed_bytes(small(recipe), shape(*sizes, layers), recompute=False)
        - weight_bytes(small(recipe), shape(*sizes, layers))
        for layers in (1, 3)
    ]

    share = (kept[1] - kept[0]) / (estimated[1] - estimated[0])
    assert 0.75 < share < 0.95


def small(recipe: Recipe) -> Recipe:
    stages = [each.model_copy(update={"tokens_per_batch": 512}) for each in recipe.stages]
    return recipe.model_copy(update={"stages": tuple(stages)})


def weight_bytes(recipe: Recipe, model: PreTrainedModel) -> float:
    """The part of the estimate that is not of activations."""
    nothing = [each.model_copy(update={"tokens_per_batch": 0}) for each in recipe.stages]
    return needed_bytes(
        recipe.model_copy(update={"stages": tuple(nothing)}), model, recompute=False
    )


def shape(hidden: int, intermediate: int, layers: int) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=4,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def kept_bytes(hidden: int, intermediate: int, layers: int, recipe: Recipe) -> int:
    """What autograd keeps of a batch of 512 tokens besides parameters."""
    assert recipe.lora is not None
    causal = shape(hidden, intermediate, layers)
    model: Any = peft.get_peft_model(causal, lora_config(recipe.lora)).train()
    parameters = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in parameters:
            kept[storage] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        packed_loss(model, causal, batch_of(Random(1), 1, 1000), {"main": 1.0})
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
