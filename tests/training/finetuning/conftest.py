"""Recipes of one stage, and what a stage is about to train on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from training.finetuning import finetune
from training.finetuning.merge import merge
from training.finetuning.packing import Row
from training.finetuning.trainer import Run
from training.mixture.sources import Sources
from training.recipe import Recipe, Stage
from training.recipe_files import load_recipe


def of_one_stage(recipe_file: Path, **changes: Any) -> Recipe:
    """The recipe's second stage alone, changed, in steps enough for a schedule to show."""
    recipe = load_recipe(recipe_file)
    stage = recipe.stages[1].model_copy(update={"epochs": 6} | changes)
    return recipe.model_copy(update={"stages": (stage,), "label_spaces": ("meld", "unified")})


@pytest.fixture(scope="session")
def bundle(adapter: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a merge made of that adapter."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    merge(adapter, tiny_base, folder)
    return folder


class _Stopped(Exception):
    """Training would begin now."""


@pytest.fixture
def about_to_train(
    monkeypatch: pytest.MonkeyPatch,
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
) -> Callable[..., tuple[list[Row], Run]]:
    """What a stage with changes is about to train on, and with what."""

    def prepared(**changes: Any) -> tuple[list[Row], Run]:
        given: list[tuple[list[Row], Run]] = []

        def stopped(_: Recipe, __: Stage, rows: Sequence[Row], run: Run) -> None:
            given.append((list(rows), run))
            raise _Stopped

        monkeypatch.setattr(finetune, "run_stage", stopped)
        recipe = of_one_stage(recipe_file, **changes)
        with pytest.raises(_Stopped):
            finetune.train(recipe, tiny_base, sources, tmp_path / f"{len(changes)}")
        return given[0]

    return prepared
