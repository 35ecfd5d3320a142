"""Stages that runs of an experiment have in common are trained once."""

import json
import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.finetuning import finetune
from training.finetuning.shared_stages import identity
from training.mixture.sources import Sources
from training.recipe import Recipe, Tasks
from training.recipe_files import load_recipe

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file)


def changed(recipe: Recipe, stage: int, **changes: object) -> Recipe:
    stages = list(recipe.stages)
    stages[stage] = stages[stage].model_copy(update=changes)
    return recipe.model_copy(update={"stages": tuple(stages)})


def test_first_stage_of_another_run_is_taken(
    recipe: Recipe,
    tiny_base: Path,
    sources: Sources,
    adapter: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It comes to the same weights and the same record as training it again does."""
    shared = tmp_path / "stages"
    other = changed(recipe, 1, learning_rate=0.02).model_copy(update={"name": "other"})
    finetune.train(other, tiny_base, sources, tmp_path / "other", shared=shared)
    assert len(list(shared.iterdir())) == 1

    with caplog.at_level(logging.INFO):
        finetune.train(recipe, tiny_base, sources, tmp_path / "run", shared=shared)

    assert "stage first: is already trained" in caplog.text
    trained, taken = (load_file(folder / WEIGHTS) for folder in (adapter, tmp_path / "run"))
    assert trained.keys() == taken.keys()
    assert all(torch.equal(trained[name], taken[name]) for name in trained)
    ours, record = (
        json.loads((folder / "training.json").read_text()) for folder in (adapter, tmp_path / "run")
    )
    assert record == ours
    assert len(list(shared.iterdir())) == 1


MATERIAL: dict[str, str | int] = {
    "base": "1",
    "train.csv": "1f",
    "number of training dialogues in train.csv": 9,
}


def test_runs_have_a_stage_in_common_where_all_that_decides_it_is_the_same(recipe: Recipe) -> None:
    """What comes after it, or what a run is called, decides nothing."""
    named = partial(identity, compute="float32")
    known = named(recipe, 1, MATERIAL)

    assert named(changed(recipe, 1, epochs=9), 1, MATERIAL) == known
    assert named(recipe.model_copy(update={"name": "x", "version": "0"}), 1, MATERIAL) == known
    others = [
        named(recipe, 2, MATERIAL),
        named(recipe, 1, MATERIAL | {"base": "2"}),
        named(recipe, 1, MATERIAL, compute="bfloat16"),
        named(changed(recipe, 0, epochs=9), 1, MATERIAL),
        named(recipe.model_copy(update={"seed": 8}), 1, MATERIAL),
        named(recipe.model_copy(update={"development": ()}), 1, MATERIAL),
        named(recipe.model_copy(update={"max_tokens": 99}), 1, MATERIAL),
        # The last stage's tasks and labels are what the first is scored on, too.
        named(changed(recipe, 1, tasks=Tasks(prediction=0.1)), 1, MATERIAL),
        named(changed(recipe, 1, own=0.0), 1, MATERIAL),
    ]
    assert known not in others
    assert len(set(others)) == len(others)
