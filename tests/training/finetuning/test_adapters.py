"""Adapter settings that a merge or vLLM could not honour are refused before training starts."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from training.finetuning.adapters import check_base
from training.recipe import Lora, RecipeError
from training.recipe_files import load_recipe


def refusal(recipe_file: Path, base: Path, **lora: Any) -> str:
    recipe = load_recipe(recipe_file)
    assert recipe.lora is not None
    changed = recipe.model_copy(update={"lora": Lora(**recipe.lora.model_dump() | lora)})
    with pytest.raises(RecipeError) as refused:
        check_base(changed, base)
    return str(refused.value)


def test_recipe_that_fits_its_base_is_not_refused(recipe_file: Path, tiny_base: Path) -> None:
    check_base(load_recipe(recipe_file), tiny_base)


def test_module_that_the_base_does_not_have_is_named(recipe_file: Path, tiny_base: Path) -> None:
    """With those it has: families call them differently."""
    assert refusal(recipe_file, tiny_base, targets=("q_proj", "o_proj")) == (
        "recipe tiny: lora.targets: o_proj is not a module of the base; its linear modules are "
        "fc1, fc2, k_proj, lm_head, out_proj, q_proj, v_proj"
    )


def test_module_that_is_not_linear_is_refused(recipe_file: Path, tiny_base: Path) -> None:
    message = refusal(recipe_file, tiny_base, targets=("final_layer_norm",))

    assert "lora.targets: final_layer_norm is not linear" in message


@pytest.mark.parametrize("key", ["targets", "whole"])
@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_tied_weights_are_refused(key: str, name: str, recipe_file: Path, tiny_base: Path) -> None:
    """What is added to the head would be added to the word table too."""
    message = refusal(recipe_file, tiny_base, **{key: (name,)})

    assert f"lora.{key}: {name} shares its weights with another module" in message


def test_prompt_longer_than_the_base_reads_is_refused(recipe_file: Path, tiny_base: Path) -> None:
    recipe = load_recipe(recipe_file).model_copy(update={"max_tokens": 161})

    with pytest.raises(RecipeError, match=r"tiny: max_tokens: is 161, .* reads at most 160"):
        check_base(recipe, tiny_base)


def test_dropout_that_a_base_does_not_have_is_refused(
    recipe_file: Path, tmp_path: Path, tiny_base: Path
) -> None:
    """Llama has none on its hidden states; OPT does."""
    LlamaConfig(num_hidden_layers=1, vocab_size=8).save_pretrained(tmp_path)
    recipe = load_recipe(recipe_file)
    stages = (recipe.stages[0], recipe.stages[1].model_copy(update={"dropout": 0.1}))
    changed = recipe.model_copy(update={"stages": stages, "lora": None})

    check_base(changed, tiny_base)
    with pytest.raises(RecipeError, match=r"tiny: stage second: dropout: .* does not support it"):
        check_base(changed, tmp_path)


def test_all_parameters_need_no_adapter(recipe_file: Path, tiny_base: Path) -> None:
    check_base(load_recipe(recipe_file).model_copy(update={"lora": None}), tiny_base)
