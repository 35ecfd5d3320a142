"""Which runs a command resumes, and which it refuses to."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from training.finetuning import finetune
from training.finetuning.bases import base_revision
from training.finetuning.run_record import RunRecord, open_record
from training.mixture.sources import Sources
from training.recipe import Recipe, RecipeError
from training.recipe_files import load_recipe


def test_run_goes_on_where_its_record_lacks_a_key_with_a_default(
    adapter: Path, recipe_file: Path, tmp_path: Path
) -> None:
    """A run outlives the version of the package that began it, unless its record has no scores.

    Another value is another run.
    """
    record = json.loads((adapter / "training.json").read_text())
    del record["recipe"]["stages"][0]["weight_decay"]
    (tmp_path / "training.json").write_text(json.dumps(record))
    recipe = load_recipe(recipe_file)
    first = recipe.stages[0].model_copy(update={"weight_decay": 0.1})

    other = recipe.model_copy(update={"stages": (first, recipe.stages[1])})
    material = record["material"]
    whole = RunRecord.model_validate_json((adapter / "training.json").read_bytes())
    assert open_record(recipe, material, record["compute"], tmp_path) == whole
    assert open_record(recipe, {"base": "1"}, "float32", tmp_path / "other").material
    with pytest.raises(RecipeError, match="contains a run of another recipe"):
        open_record(other, material, record["compute"], tmp_path)
    del record["development"][0]["scores"]
    (tmp_path / "training.json").write_text(json.dumps(record))
    with pytest.raises(RecipeError, match="contains a run of another recipe"):
        open_record(recipe, material, record["compute"], tmp_path)


def test_stage_goes_on_with_the_rows_that_it_was_begun_with(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Its checkpoint counts batches, which are others where a GPU shares longer rows."""
    recipe = load_recipe(recipe_file)
    record = json.loads((adapter / "training.json").read_text())
    assert record["attention"] == {"first": "dense", "second": "dense"}
    begun = record | {"complete": False, "finished": [], "attention": {"first": "blocks"}}
    (tmp_path / "training.json").write_text(json.dumps(begun))

    with pytest.raises(RecipeError) as refused:
        finetune.train(recipe, tiny_base, sources, tmp_path)

    assert "stage first: was started with blocks attention and would continue with dense" in str(
        refused.value
    )


def test_run_goes_on_from_what_it_was_begun_with(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """With another base, other data or another split held out it is another run."""
    recipe = load_recipe(recipe_file)
    done, data = tmp_path / "done", tmp_path / "data"
    shutil.copytree(adapter, done)
    shutil.copytree(sources.data, data)
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    weights = load_file(base / "model.safetensors")
    save_file(
        {name: weight + 1 for name, weight in weights.items()},
        base / "model.safetensors",
        metadata={"format": "pt"},
    )

    def refusal(base: Path, recipe: Recipe = recipe) -> str:
        with pytest.raises(RecipeError) as refused:
            finetune.train(recipe, base, replace(sources, data=data), done)
        return str(refused.value)

    finetune.train(recipe, tiny_base, replace(sources, data=data), done)
    assert f"{done}: was started with {base_revision(tiny_base)} as the base" in refusal(base)
    rows = (data / "talks.jsonl").read_text().splitlines()
    (data / "held_out.jsonl").write_text(rows[0])
    assert "as the contents of held_out.jsonl" in refusal(tiny_base)
    (data / "held_out.jsonl").write_text((sources.data / "held_out.jsonl").read_text())
    (data / "talks.jsonl").write_text("\n".join(rows) + "\n\n")
    assert "as the contents of talks.jsonl" in refusal(tiny_base)
