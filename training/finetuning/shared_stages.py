"""Stages that several runs of an experiment begin with: the first trains them, others take them.

Where a recipe varies its last stage, all runs of a seed have the stages before it in common.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from service.decoding.precision import ComputeType
from service.failures import fields_at_fault
from service.files import folder_written_whole
from training.finetuning.run_record import RunRecord, StageRecord
from training.recipe import Recipe, RecipeError

log = logging.getLogger(__name__)

_RECORD = "stage.json"
# Names, promised label spaces and recomputation do not change what is trained; the type that is
# computed in, which does, is hashed by itself.
_LEFT_OUT = {"name", "version", "label_spaces", "stages", "compute", "gradient_checkpointing"}


def identity(
    recipe: Recipe, stages: int, material: Mapping[str, str | int], compute: ComputeType
) -> str:
    """The name of the weights after a run's first stages: a hash of all that decides them.

    Args:
        material: what the run is trained from, as it is on record.
    """
    last = recipe.stages[-1]
    decides = {
        "recipe": recipe.model_dump(mode="json", exclude=_LEFT_OUT),
        "stages": [stage.model_dump(mode="json") for stage in recipe.stages[:stages]],
        # What held-out dialogues are asked, which is on record and tells the best epoch.
        "demonstrations": last.demonstrations.model_dump(mode="json"),
        "prediction": bool(last.tasks.prediction),
        "own": bool(last.own or not last.unified),
        "material": dict(material),
        "compute": compute,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def share(weights: Path, stage: str, record: RunRecord, folder: Path) -> None:
    """Copy a finished stage's weights and its record to a folder for other runs."""
    content = json.dumps(record.of_stage(stage).model_dump(mode="json"))
    with _alone(folder.parent):
        if folder.is_dir():
            return
        with folder_written_whole(folder) as whole:
            shutil.copytree(weights, whole, dirs_exist_ok=True)
            (whole / _RECORD).write_text(content, encoding="utf-8")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: another run may share the same stage at this moment."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def take(folder: Path, stage: str, record: RunRecord, weights: Path) -> None:
    """Take the weights and the record of a stage that another run has shared.

    Raises:
        RecipeError: the record is broken.
    """
    log.info("stage %s: is already trained, in %s", stage, folder)
    path = folder / _RECORD
    try:
        record.add_stage(StageRecord.model_validate_json(path.read_bytes()))
    except ValidationError as error:
        raise RecipeError(
            f"{path}: is not the record of a stage: {fields_at_fault(error, 'stage')}; remove "
            f"{folder}"
        ) from None
    with folder_written_whole(weights) as whole:
        shutil.copytree(folder, whole, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_RECORD))
