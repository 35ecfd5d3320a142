"""Recipes say everything that decides a run, and nothing else."""

from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from training.datasets.reading import FORMATS
from training.recipe import CorpusFile, RecipeError
from training.recipe_files import load_recipe, load_runs

SHIPPED = sorted(Path(str(files("training") / "recipes")).glob("*.yaml"))


def changed(path: Path, way: str, value: Any) -> None:
    """Set the field at `way` ("stages.0.epochs"), or take it away."""
    recipe = yaml.safe_load(path.read_text())
    *parents, last = [int(part) if part.isdigit() else part for part in way.split(".")]
    place = recipe
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    path.write_text(yaml.safe_dump(recipe))


@pytest.fixture
def recipe(recipe_file: Path, tmp_path: Path) -> Path:
    """A copy of the small run's recipe to break."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(recipe_file.read_bytes())
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_loads_and_is_called_like_its_file(path: Path) -> None:
    """Each of its runs, with what is changed in it."""
    for name, recipe in load_runs(path).items():
        assert recipe.name == name
        assert name == path.stem or name.startswith(f"{path.stem}-")


def test_recipe_may_name_every_format_that_is_read() -> None:
    """Two lists, one of them for the checker of types."""
    named = CorpusFile.model_fields["format"].annotation

    assert set(get_args(named)) == {*FORMATS, "jsonl"}


def test_recipes_are_shipped() -> None:
    """The default model's is among them."""
    assert "erc-mini" in [path.stem for path in SHIPPED]


def test_recipe_is_what_the_file_says(recipe: Path) -> None:
    loaded = load_recipe(recipe)

    assert (loaded.name, loaded.version, loaded.template, loaded.seed) == ("tiny", "9", "v2", 7)
    assert (loaded.window.lowest, loaded.window.highest) == (2, 3)
    assert [stage.name for stage in loaded.stages] == ["first", "second"]
    assert loaded.stages[1].demonstrations.pools == ("train", "shipped")
    assert loaded.lora is not None
    assert loaded.lora.targets == ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@pytest.mark.parametrize(
    ("way", "value", "message"),
    [
        ("sead", 3, "sead: Extra inputs are not permitted"),
        ("seed", None, "seed: Field required"),
        ("seed", "many", "seed: Input should be a valid integer"),
        ("template", "v9", ".*template 'v9' is not one of instructerc-v1, .*v2"),
        ("max_tokens", -1, "max_tokens: .*greater than 0"),
        ("label_spaces", [], "label_spaces: .*at least 1 item"),
        ("window.highest", 1, "window: .*lowest <= highest"),
        ("window.lowst", 1, r"window\.lowst: Extra inputs"),
        ("lora.rank", "big", r"lora\.rank: Input should be a valid integer"),
        ("lora.rnak", 8, r"lora\.rnak: Extra inputs"),
        ("stages.1.name", "first", ".*stages: first appears twice"),
        ("stages.1.name", "first/1", r"stages\.1\.name: String should match"),
        ("stages.1.tasks", {"main": 0}, r"stages\.1\.tasks: .*one task needs a weight above 0"),
        ("stages.1.sample", {"share": 0}, r"stages\.1\.sample\.share: .*greater than 0"),
        (
            "stages.1.demonstrations.pairing",
            "label_dropout",
            r"stages\.1\.demonstrations: .*set dropout exactly when pairing is label_dropout",
        ),
        ("stages.0.epochs", 1.5, r"stages\.0\.epochs: Input should be a valid integer"),
        ("stages.0.floor", 0.1, r"stages\.0: .*floor: has no effect with schedule: linear"),
        ("stages.0.weight_decay", -1, r"stages\.0\.weight_decay: .*greater than or equal to 0"),
        ("stages.0.learning_rte", 0.1, r"stages\.0\.learning_rte: Extra inputs"),
        ("stages.0.learning_rate", "fast", r"stages\.0\.learning_rate: Input should be a valid"),
        ("stages.1.unified", 1.5, r"stages\.1\.unified: .*less than or equal to 1"),
        ("stages.1.demonstrations.share", -1, r"stages\.1\.demonstrations\.share: "),
        ("stages.1.demonstrations.pools", ["trian"], r"stages\.1\.demonstrations\.pools\.0: "),
        ("stages.0.corpora.0.format", "csv", r"stages\.0\.corpora\.0\.format: "),
        (
            "stages.0.corpora.0.label_space",
            None,
            r"stages\.0\.corpora\.0: .*set label_space exactly when format is jsonl",
        ),
        (
            "stages.0.corpora.0.format",
            "meld",
            r"stages\.0\.corpora\.0: .*set label_space exactly when format is jsonl",
        ),
    ],
)
def test_error_names_file_and_key(way: str, value: Any, message: str, recipe: Path) -> None:
    """Before any weights are loaded."""
    changed(recipe, way, value)

    with pytest.raises(RecipeError, match=rf"mine\.yaml: {message}"):
        load_recipe(recipe)


@pytest.mark.parametrize("teacher", ["second", "third"])
def test_a_teacher_is_a_stage_before(teacher: str, recipe: Path) -> None:
    changed(recipe, "stages.1.pseudo_labels", {"teacher": "first"})
    load_recipe(recipe)
    changed(recipe, "stages.1.pseudo_labels", {"teacher": teacher})

    with pytest.raises(
        RecipeError, match=f"stage second: pseudo_labels: {teacher} is not an earlier"
    ):
        load_recipe(recipe)


def test_first_stage_keeps_no_share_of_what_it_began_with(recipe: Path) -> None:
    changed(recipe, "stages.1.start_share", 0.5)
    load_recipe(recipe)
    changed(recipe, "stages.0.start_share", 0.5)

    with pytest.raises(RecipeError, match="stage first: start_share: no stage before it"):
        load_recipe(recipe)


def test_recipe_asks_for_no_task_that_its_template_lacks(recipe: Path) -> None:
    """Two keys, neither of them wrong alone."""
    changed(recipe, "template", "instructerc-plain-v1")
    changed(recipe, "stages.1.demonstrations", None)
    load_recipe(recipe)
    changed(recipe, "stages.1.tasks", {"main": 1, "prediction": 0.1})

    with pytest.raises(RecipeError, match=r"instructerc-plain-v1 has no prediction task"):
        load_recipe(recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name: [", "not YAML: "),
        (b"", "recipe: Input should be a valid dictionary"),
        (b"- a\n- b\n", "recipe: Input should be a valid dictionary"),
        (b"name: caf\xe9\n", "not UTF-8 at byte 9"),
    ],
    ids=["not-yaml", "empty", "a-list", "latin-1"],
)
def test_file_that_holds_no_recipe_is_refused(text: bytes, message: str, recipe: Path) -> None:
    recipe.write_bytes(text)

    with pytest.raises(RecipeError, match=rf"mine\.yaml: {message}"):
        load_recipe(recipe)


def test_missing_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml: No such file"):
        load_recipe(tmp_path / "none.yaml")


def test_number_without_a_point_is_read_as_the_number_it_is(recipe: Path) -> None:
    """YAML takes "2e-4" for text."""
    recipe.write_text(recipe.read_text().replace("learning_rate: 0.01", "learning_rate: 2e-4"))

    assert load_recipe(recipe).stages[0].learning_rate == 0.0002


def written(folder: Path, name: str, described: dict[str, Any]) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


def test_recipe_that_extends_another_says_only_what_differs(recipe: Path, tmp_path: Path) -> None:
    """Mappings key by key, named things by name, all else whole; null takes away."""
    path = written(
        tmp_path,
        "other",
        {
            "extends": "mine.yaml",
            "name": "other",
            "window": {"highest": 9},
            "stages": {"first": None, "second": {"epochs": 5, "demonstrations": None}},
            "label_spaces": ["meld"],
        },
    )

    mine, other = load_recipe(recipe), load_recipe(path)

    (second,) = other.stages
    assert (other.window.lowest, other.window.highest) == (2, 9)
    assert second == mine.stages[1].model_copy(
        update={"epochs": 5, "demonstrations": second.demonstrations}
    )
    assert second.demonstrations.count == 0
    assert other.label_spaces == ("meld",)
    assert other.lora == mine.lora


def test_all_parameters_are_trained_where_the_adapter_is_null(recipe: Path, tmp_path: Path) -> None:
    """Null is a value there."""
    path = written(tmp_path, "all", {"extends": "mine.yaml", "lora": None})

    assert load_recipe(path).lora is None


def test_every_combination_of_what_varies_is_a_run(recipe: Path, tmp_path: Path) -> None:
    """Named after what it changes."""
    path = written(
        tmp_path,
        "sweep",
        {
            "extends": "mine.yaml",
            "name": "sweep",
            "vary": {
                "seed": {"one": {"seed": 1}, "two": {"seed": 2}},
                "rate": {
                    "slow": {"stages": {"second": {"learning_rate": 1e-5}}},
                    "fast": {"stages": {"second": {"learning_rate": 1e-2}}},
                },
            },
        },
    )

    runs = load_runs(path)

    assert {n: (r.name, r.seed, r.stages[1].learning_rate) for n, r in runs.items()} == {
        "sweep-one-slow": ("sweep-one-slow", 1, 1e-5),
        "sweep-one-fast": ("sweep-one-fast", 1, 1e-2),
        "sweep-two-slow": ("sweep-two-slow", 2, 1e-5),
        "sweep-two-fast": ("sweep-two-fast", 2, 1e-2),
    }
    with pytest.raises(RecipeError, match=r"sweep\.yaml: has 4 runs; .*: sweep-one-slow, "):
        load_recipe(path)
    assert load_recipe(path, "sweep-one-fast") == load_runs(path)["sweep-one-fast"]
    with pytest.raises(RecipeError, match=r"sweep\.yaml: has no run three; .* sweep-one-slow, "):
        load_recipe(path, "three")


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"extends": "none.yaml"}, r"none\.yaml: No such file"),
        ({"extends": "broken.yaml"}, r"broken\.yaml: extends itself"),
        (
            {"extends": "mine.yaml", "stages": {"third": {"epochs": 1}}},
            "broken.yaml: has nothing called third to change",
        ),
        ({"extends": "mine.yaml", "vary": ["a"]}, "vary: must contain axes with named changes"),
        ({"extends": "mine.yaml", "vary": {"a": {}}}, "vary: must contain axes with named changes"),
        ({"extends": "mine.yaml", "vary": {"a": {"b": 3}}}, "3 is not a mapping of changes"),
    ],
)
def test_change_that_fits_nothing_is_refused(
    described: dict[str, Any], message: str, recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        load_runs(written(tmp_path, "broken", described))


def test_demonstrations_that_the_template_cannot_show_are_refused(recipe: Path) -> None:
    """It would train without them, and nobody would see."""
    changed(recipe, "template", "instructerc-v1")

    with pytest.raises(RecipeError, match="template instructerc-v1 has no place for demonstrat"):
        load_recipe(recipe)
