"""What a training run keeps of itself in its folder: `training.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.decoding.bundle import FILE as BUNDLE
from service.decoding.bundle import TRAINING, BundleError, read_bundle
from service.decoding.precision import ComputeType
from service.files import is_unfinished, written_whole
from service.outputs import check_begun
from training.finetuning.selection import worth
from training.recipe import Recipe, RecipeError, Stage, is_one_run

FILE = TRAINING
CHECKPOINTS, LOGS = "checkpoints", "logs"


def check_out(out: Path, base: Path) -> None:
    """See that a run may be written into a folder.

    Raises:
        OutputError: it cannot be written, is the base's, or holds something else than a run.
    """
    check_begun(out, _foreign, [base])


def _foreign(folder: Path) -> str | None:
    """What tells that a folder holds no run; whose run it holds is on its record."""
    if (folder / FILE).is_file():
        return None
    others = sorted(path.name for path in folder.iterdir() if not is_unfinished(path))
    # A run that was killed before it had a record.
    if CHECKPOINTS in others and {*others} <= {BUNDLE, CHECKPOINTS, LOGS}:
        try:
            read_bundle(folder)
        except BundleError:
            pass
        else:
            return None
    return f"holds {others[0]}, which no run wrote" if others else None


def begun(
    recipe: Recipe, material: Mapping[str, str | int], compute: ComputeType, out: Path
) -> dict[str, Any]:
    """The record of the run in a folder, which a new run begins with nothing in it.

    It has the recipe, what it is trained from, what it is computed in, each epoch's development
    scores, which epoch's weights were kept, how often demonstrations agreed with the label, and
    what is finished: stages, and runs of stages.

    Args:
        material: what the run is trained from besides the recipe, each thing by its name.
        compute: what it would be computed in here.

    Raises:
        RecipeError: the folder holds a run of another recipe, from other material, or one that is
            not complete and was computed in another type.
    """
    described = recipe.model_dump(mode="json")
    path = out / FILE
    if not path.is_file():
        return {
            "recipe": described,
            "material": dict(material),
            "compute": compute,
            "agreement": {},
            "development": [],
            "kept": {},
            "finished": [],
            "complete": False,
        }
    record = _record(path)
    rows = record.get("development", ())
    whole = "complete" in record and all("scores" in row for row in rows)
    # Of a run that is complete nothing is left to be drawn from it.
    whole = whole and ("material" in record or record["complete"])
    if not whole or not _is_of(recipe, record):
        raise RecipeError(
            f"{out}: holds a run of another recipe; remove it or choose another folder"
        )
    before = record.get("material", material)
    for what in sorted(before.keys() | material.keys()):
        if before.get(what) != material.get(what):
            raise RecipeError(
                f"{out}: was begun with {before.get(what)} as the {what}, which is now "
                f"{material.get(what)}; remove it or choose another folder"
            )
    # A record without it is of a run in bfloat16.
    in_type = record.setdefault("compute", "bfloat16")
    if in_type != compute and not record["complete"]:
        raise RecipeError(
            f"{out}: was begun in {in_type}, and would go on in {compute}; say compute: {in_type} "
            "in the recipe to go on, remove it or choose another folder"
        )
    return record


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RecipeError(f"{path}: is no record of a run; choose another folder")
    return found


def _is_of(recipe: Recipe, record: Mapping[str, Any]) -> bool:
    """Whether a record is of this recipe; a key that it lacks has its default."""
    try:
        return is_one_run(Recipe.model_validate(record.get("recipe")), recipe)
    except ValidationError:
        return False


def write_record(record: Mapping[str, Any], out: Path) -> None:
    """Replace the record of the run in a folder."""
    with written_whole(out / FILE) as file:
        file.write(json.dumps(record, indent=2) + "\n")


def put_scores(
    record: dict[str, Any], what: str, epoch: int, scores: Mapping[str, float], stage: Stage
) -> bool:
    """Put an epoch's development scores on record.

    Args:
        what: the stage's name, or "STAGE/RUN" where it is run several times.

    Returns:
        Whether they are its best so far, by what it serves (`training.finetuning.selection`).
    """
    # A run that goes on may have scored this epoch before.
    rows = [r for r in record["development"] if r["stage"] != what or r["epoch"] < epoch]
    before = [worth(r["scores"], stage) for r in rows if r["stage"] == what]
    best = all(worth(scores, stage) > other for other in before)
    if best or stage.keep == "last":
        record["kept"][what] = epoch
    row = {"stage": what, "epoch": epoch, "scores": dict(scores)}
    record["development"] = [*rows, row]
    return best
