"""A stage of several runs, whose mean is kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.finetuning import finetune
from training.finetuning.model_inspection import ADAPTER_WEIGHTS
from training.finetuning.packing import Row
from training.finetuning.trainer import Run, run_stage
from training.mixture.sources import Sources
from training.recipe import Recipe, Stage
from training.recipe_files import load_recipe


def test_stage_of_several_runs_keeps_the_mean_of_them(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """They begin at the same weights, each has a seed of its own, and the mean is scored too."""
    recipe = load_recipe(recipe_file)
    stage = recipe.stages[0]
    once = recipe.model_copy(update={"lora": None, "stages": (stage,)})
    for seed in (7, 1007):
        alone = once.model_copy(update={"seed": seed})
        finetune.train(alone, tiny_base, sources, tmp_path / str(seed))
    twice = once.model_copy(update={"stages": (stage.model_copy(update={"runs": 2}),)})

    finetune.train(twice, tiny_base, sources, tmp_path / "mean")

    first, second, mean = (
        load_file(tmp_path / run / "model.safetensors") for run in ("7", "1007", "mean")
    )
    assert first.keys() == second.keys() == mean.keys()
    assert not all(torch.equal(first[name], second[name]) for name in first)
    for name in first:
        torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2)
    record = json.loads((tmp_path / "mean" / "training.json").read_text())
    assert [row["stage"] for row in record["development"]] == ["first/1", "first/2", "first"]
    assert record["finished"] == ["first/1", "first/2", "first"]


def test_stage_keeps_a_share_of_the_weights_that_it_began_with(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Its one run is on record apart from the mean."""
    recipe = load_recipe(recipe_file)
    first, second = recipe.stages
    begun = recipe.model_copy(update={"label_spaces": ("meld", "unified"), "stages": (first,)})
    both = recipe.model_copy(update={"stages": (first, second)})
    sharing = second.model_copy(update={"start_share": 0.25})
    shared = recipe.model_copy(update={"stages": (first, sharing)})
    for name, each in {"begun": begun, "both": both, "shared": shared}.items():
        finetune.train(each, tiny_base, sources, tmp_path / name)

    start, end, mean = (
        load_file(tmp_path / run / ADAPTER_WEIGHTS) for run in ("begun", "both", "shared")
    )
    assert any(not torch.equal(start[name], end[name]) for name in end)
    for name, weights in mean.items():
        torch.testing.assert_close(weights, 0.25 * start[name] + 0.75 * end[name])
    record = json.loads((tmp_path / "shared" / "training.json").read_text())
    assert record["finished"] == ["first", "second/1", "second"]


def test_stage_of_several_runs_goes_on_after_the_last_that_was_finished(
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the adapter's own first weights, which are drawn: the runs' must be the same ones."""
    recipe = load_recipe(recipe_file)
    stages = (recipe.stages[0].model_copy(update={"runs": 2}),)
    twice = recipe.model_copy(update={"stages": stages})
    finetune.train(twice, tiny_base, sources, tmp_path / "whole")
    begun: list[Path] = []

    def killed_in_the_second(recipe: Recipe, stage: Stage, rows: Sequence[Row], run: Run) -> None:
        begun.append(run.checkpoints)
        if len(begun) == 2:
            raise KeyboardInterrupt
        run_stage(recipe, stage, rows, run)

    monkeypatch.setattr(finetune, "run_stage", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        finetune.train(twice, tiny_base, sources, tmp_path / "killed")
    finetune.train(twice, tiny_base, sources, tmp_path / "killed")

    assert [path.name for path in begun] == ["1", "2", "2"]
    whole, killed = (load_file(tmp_path / run / ADAPTER_WEIGHTS) for run in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
