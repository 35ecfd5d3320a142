"""Processes that share weights out are told by what launches them, and get no mean of weights."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from training.finetuning import finetune
from training.finetuning.sharding import check_sharding, shards_weights
from training.mixture.sources import Sources
from training.recipe import Recipe, RecipeError
from training.recipe_files import load_recipe, recipe_path

FSDP = Path(str(files("training") / "launch" / "fsdp.yaml"))
DEEPSPEED = {"ACCELERATE_USE_DEEPSPEED": "true"}


def launched(config: Path) -> dict[str, str]:
    """What `accelerate launch` has its processes find in their environment."""
    command = ["--config_file", str(config), "--num_processes", "2", "train.py"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(command))
    environment: dict[str, str] = prepare_multi_gpu_env(arguments)
    return environment


def test_accelerate_reads_every_field_of_the_shipped_configuration() -> None:
    """A misspelt one it would pass over."""
    config = load_config_from_file(str(FSDP))
    described = yaml.safe_load(FSDP.read_text())

    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == "FSDP"
    assert set(described) <= set(vars(config))
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(described["fsdp_config"]) <= known


def test_shipped_configuration_shards() -> None:
    """Each decoder layer by itself; what is saved is whole."""
    variables = launched(FSDP)

    assert shards_weights(variables)
    assert variables["FSDP_VERSION"] == "2"
    assert variables["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert variables["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"


def test_zero_3_shards_weights_and_zero_2_does_not(tmp_path: Path) -> None:
    """As options of accelerate, or in a file of DeepSpeed's."""
    for stage in (2, 3):
        file = tmp_path / f"{stage}.json"
        file.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
        option = {"ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)}
        assert shards_weights(DEEPSPEED | option) == (stage == 3)
        assert shards_weights(DEEPSPEED | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}) == (
            stage == 3
        )
    assert not shards_weights({"WORLD_SIZE": "2", "RANK": "0"})  # torchrun: each has them all


def test_mean_of_weights_is_refused_where_they_are_sharded(recipe_file: Path) -> None:
    """And only there."""
    recipe = load_recipe(recipe_file)
    last = recipe.stages[1].model_copy(update={"average": 0.4})
    averaging: Recipe = recipe.model_copy(update={"stages": (recipe.stages[0], last)})

    check_sharding(recipe, {"ACCELERATE_USE_FSDP": "true"})
    check_sharding(averaging, {})
    with pytest.raises(
        RecipeError, match=r"recipe tiny: stage second: average: needs whole weights, .* shard; "
    ):
        check_sharding(averaging, {"ACCELERATE_USE_FSDP": "true"})


def test_teacher_is_refused_where_weights_are_sharded() -> None:
    """It is asked with what a process has of them."""
    recipe = load_recipe(recipe_path("erc-mini"))
    stages = tuple(stage.model_copy(update={"average": 0.0}) for stage in recipe.stages)
    taught: Recipe = recipe.model_copy(update={"stages": stages})

    check_sharding(taught, {})
    with pytest.raises(
        RecipeError,
        match=r"stage polish: pseudo_labels: its teacher needs whole weights, .* shard; ",
    ):
        check_sharding(taught, {"ACCELERATE_USE_FSDP": "true"})


def test_training_refuses_before_anything_is_written(
    recipe_file: Path,
    tiny_base: Path,
    sources: Sources,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As every process of a sharded run finds it in its environment."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    recipe = load_recipe(recipe_file)
    averaging = recipe.stages[0].model_copy(update={"average": 0.4})
    changed = recipe.model_copy(update={"stages": (averaging, recipe.stages[1])})

    with pytest.raises(RecipeError, match="stage first: average"):
        finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert not (tmp_path / "run").exists()
