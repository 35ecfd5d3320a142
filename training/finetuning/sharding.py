"""Detects sharded weights of processes that train together, and refuses what that rules out."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from training.recipe import Recipe, RecipeError


def check_sharding(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> None:
    """Check that no stage needs whole weights in a process where they are sharded.

    Raises:
        RecipeError: the weights are sharded, and a stage keeps the mean of its last steps', or asks
            an earlier stage for pseudo-labels.
    """
    if not shards_weights(environment):
        return
    for stage in recipe.stages:
        if stage.average:
            raise RecipeError(
                f"recipe {recipe.name}: stage {stage.name}: average: needs whole weights, which "
                "FSDP and DeepSpeed's ZeRO-3 shard; train without sharding, or set it to 0"
            )
        if stage.pseudo_labels:
            raise RecipeError(
                f"recipe {recipe.name}: stage {stage.name}: pseudo_labels: its teacher needs "
                "whole weights, which FSDP and DeepSpeed's ZeRO-3 shard; train without sharding"
            )


def shards_weights(environment: Mapping[str, str]) -> bool:
    """Whether each process has a part of the weights: by FSDP, or by DeepSpeed's ZeRO stage 3."""
    if environment.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        return True
    if environment.get("ACCELERATE_USE_DEEPSPEED", "").lower() != "true":
        return False
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file == "none":
        return environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    config = json.loads(Path(file).read_text(encoding="utf-8"))
    return bool(config.get("zero_optimization", {}).get("stage") == 3)
