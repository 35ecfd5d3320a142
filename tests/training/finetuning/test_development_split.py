"""The development split: scored once an epoch, and decisive where the recipe says so."""

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from training.finetuning import finetune
from training.finetuning.label_probabilities import development_scores
from training.mixture.mixing import held_out
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.mixture.tasks import prompt_settings
from training.recipe_files import load_recipe


def test_development_split_is_scored_once_an_epoch(adapter: Path) -> None:
    """With demonstrations and without, in the corpus's own labels, in percent."""
    rows = json.loads((adapter / "training.json").read_text())["development"]

    assert [row["stage"] for row in rows] == ["first", "second", "second"]
    assert [round(row["epoch"]) for row in rows] == [1, 1, 2]
    for row in rows:
        assert row["scores"].keys() == {
            "meld, without demonstrations",
            "meld, with demonstrations",
        }
        assert all(0 <= score <= 100 for score in row["scores"].values())


def test_best_epoch_is_kept_where_the_recipe_says_so(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """By the development split, not by chance of the last step; the record says which it was."""
    recipe = load_recipe(recipe_file)
    first, second = recipe.stages
    longer = second.model_copy(update={"keep": "best", "epochs": 6, "learning_rate": 0.03})
    changed = recipe.model_copy(update={"stages": (first, longer)})

    finetune.train(changed, tiny_base, sources, tmp_path / "run")

    record = json.loads((tmp_path / "run" / "training.json").read_text())
    means = {
        row["epoch"]: sum(row["scores"].values())
        for row in record["development"]
        if row["stage"] == "second"
    }
    assert record["kept"] == {"first": 1, "second": max(means, key=lambda epoch: means[epoch])}
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "run")).get_base_model()
    settings = prompt_settings(changed, tiny_base)
    development = sources.corpora(recipe.development)
    pools = Pools(sources, sources.corpora(longer.corpora), recipe.seed, development)
    held = held_out(development, longer, pools, sources, settings)
    scores = development_scores(model.eval(), model, held, settings, record["compute"])
    assert sum(scores.values()) == pytest.approx(max(means.values()), abs=0.02)
