"""Recipes that are refused before anything is trained or written."""

from pathlib import Path
from typing import Any

import pytest

from training.datasets.errors import DatasetError
from training.finetuning import finetune
from training.mixture.sources import Sources
from training.recipe import RecipeError, Tasks
from training.recipe_files import load_recipe


@pytest.mark.parametrize("label_space", ["iemocap", "moods"])
def test_label_space_that_no_stage_trains_is_refused(
    label_space: str, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """The bundle would promise it; nothing is trained or written."""
    recipe = load_recipe(recipe_file)
    changed = recipe.model_copy(update={"label_spaces": ("meld", label_space)})

    with pytest.raises(RecipeError, match=f"tiny: label_spaces: no stage trains {label_space}"):
        finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_labels_that_no_stage_asks_for_are_refused(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """A corpus's own where it trains in unified ones alone; all where only speakers are learnt."""
    recipe = load_recipe(recipe_file)
    (stage,) = recipe.stages[1:]
    for changes, untrained in (
        ({"own": 0.0, "unified": 1.0}, "meld"),
        ({"tasks": Tasks(main=0, prediction=1)}, "meld, unified"),
    ):
        stages = (stage.model_copy(update=changes),)
        changed = recipe.model_copy(update={"label_spaces": ("meld", "unified"), "stages": stages})
        with pytest.raises(RecipeError, match=f"no stage trains {untrained}$"):
            finetune.train(changed, tiny_base, sources, tmp_path / "run")


def test_split_in_labels_that_the_bundle_will_not_have_is_refused(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Before it is trained, not when it is to be scored."""
    recipe = load_recipe(recipe_file)
    others = recipe.stages[0].corpora[1]
    update = {"label_spaces": ("meld",), "stages": recipe.stages[1:], "development": (others,)}

    with pytest.raises(
        RecipeError, match=r"has neither emorynlp nor unified, .*others\.jsonl needs"
    ):
        finetune.train(recipe.model_copy(update=update), tiny_base, sources, tmp_path / "run")


def test_prompts_without_room_for_an_utterance_are_refused_before_training(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file).model_copy(update={"max_tokens": 20})

    with pytest.raises(RecipeError, match=r"max_tokens: 20 is too low for the task main of meld"):
        finetune.train(recipe, tiny_base, sources, tmp_path / "run")


def test_corpus_that_cannot_be_read_is_named_before_anything_is_written(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Also the last stage's, which would come hours later."""
    recipe = load_recipe(recipe_file)
    (corpus,) = recipe.stages[1].corpora
    missing = corpus.model_copy(update={"path": Path("none.jsonl")})
    last = recipe.stages[1].model_copy(update={"corpora": (missing,)})
    changed = recipe.model_copy(update={"stages": (recipe.stages[0], last)})

    with pytest.raises(DatasetError, match=r"none\.jsonl: No such file"):
        finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_what_is_held_out_for_the_test_does_not_train_either(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """The split is named in the recipe; until it is there, nothing can be left out for it."""
    recipe = load_recipe(recipe_file)
    talks = recipe.stages[1].corpora[0]
    absent = talks.model_copy(update={"path": Path("absent.jsonl")})

    def refusal(*test: Any) -> str:
        changed = recipe.model_copy(update={"test": test, "max_tokens": 10_000})
        with pytest.raises((DatasetError, RecipeError)) as refused:
            finetune.train(changed, tiny_base, sources, tmp_path / "run")
        return str(refused.value)

    assert "talks.jsonl: is both a training corpus and held out" in refusal(absent, talks)
    assert "max_tokens" in refusal(absent)  # the next thing that is wrong with it
