"""The record that a training run keeps in its folder: `training.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from service.decoding.bundle import FILE as BUNDLE
from service.decoding.bundle import TRAINING, BundleError, read_bundle
from service.decoding.model_files import read_json
from service.decoding.precision import ComputeType
from service.failures import fields_at_fault
from service.files import is_unfinished, written_whole
from service.outputs import check_begun
from training.finetuning.row_attention import RowAttention
from training.finetuning.selection import worth
from training.recipe import Recipe, RecipeError, Stage, is_one_run

FILE = TRAINING
CHECKPOINTS, LOGS = "checkpoints", "logs"
_ANOTHER = "remove it or choose another folder"


class EpochScores(BaseModel):
    """An epoch's development scores, in percent by what is asked.

    Attributes:
        stage: the stage's name, or "STAGE/RUN" where it is run several times.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    epoch: int
    scores: dict[str, float]


class StageRecord(BaseModel):
    """The part of a run's record that is of one stage and its runs; fields as of `RunRecord`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    development: tuple[EpochScores, ...]
    agreement: dict[str, dict[str, float]]
    kept: dict[str, int]
    attention: dict[str, RowAttention] = {}


class RunRecord(BaseModel):
    """The record of a run, which changes as the run goes on.

    A stage is on record by its name, a run of a stage that has several as "STAGE/RUN".

    Attributes:
        recipe: with the default for each key that the file lacks.
        material: what the run is trained from besides the recipe, each part by its name; None in
            the records of complete runs that ship.
        compute: what the run is computed in; a file that does not say was written in bfloat16.
        agreement: by stage, run or held-out split, and by label space, how often the nearest
            demonstration has the utterance's own label, 0 to 1.
        kept: the epoch whose weights were kept, of each stage and run.
        finished: stages and runs, in the order in which they ended.
        attention: how the model attended within rows in each stage and run, which decides their
            batches; empty in older records.
    """

    model_config = ConfigDict(extra="forbid")

    recipe: Recipe
    material: dict[str, str | int] | None = None
    compute: ComputeType = "bfloat16"
    agreement: dict[str, dict[str, float]]
    development: list[EpochScores]
    kept: dict[str, int]
    finished: list[str]
    complete: bool
    attention: dict[str, RowAttention] = {}

    @model_validator(mode="after")
    def what_goes_on_has_material(self) -> Self:
        if self.material is None and not self.complete:
            raise ValueError("material: is missing from the record of an unfinished run")
        return self

    def put_scores(self, name: str, epoch: int, scores: Mapping[str, float], stage: Stage) -> bool:
        """Put an epoch's development scores on record.

        Args:
            name: the stage's, or "STAGE/RUN".

        Returns:
            Whether they are its best so far, by what it serves (`training.finetuning.selection`).
        """
        # A run that goes on may have scored this epoch before.
        rows = [row for row in self.development if row.stage != name or row.epoch < epoch]
        before = [worth(row.scores, stage) for row in rows if row.stage == name]
        best = all(worth(scores, stage) > other for other in before)
        if best or stage.keep == "last":
            self.kept[name] = epoch
        self.development = [*rows, EpochScores(stage=name, epoch=epoch, scores=dict(scores))]
        return best

    def put_attention(self, name: str, attention: RowAttention) -> None:
        """Put on record how the model attends within the rows of a stage or run.

        Raises:
            RecipeError: it attended otherwise when the run began, so that a checkpoint would
                continue with other batches.
        """
        before = self.attention.setdefault(name, attention)
        if before is not attention:
            raise RecipeError(
                f"stage {name}: was started with {before.value} attention and would continue with "
                f"{attention.value}; resume it on a machine like the one it was started on, or "
                "choose another folder"
            )

    def of_stage(self, stage: str) -> StageRecord:
        """The part that is of a stage and its runs."""
        return StageRecord(
            development=tuple(row for row in self.development if _is_of(stage, row.stage)),
            agreement={name: of for name, of in self.agreement.items() if _is_of(stage, name)},
            kept={name: epoch for name, epoch in self.kept.items() if _is_of(stage, name)},
            attention={name: way for name, way in self.attention.items() if _is_of(stage, name)},
        )

    def add_stage(self, stage: StageRecord) -> None:
        """Take over the part of another run's record that is of one stage."""
        self.development.extend(stage.development)
        self.agreement.update(stage.agreement)
        self.kept.update(stage.kept)
        self.attention.update(stage.attention)


def names_of_runs(stage: Stage) -> list[str]:
    """The names by which a stage's runs are on record and in the folders.

    The stage's own where its weights are those of its one run.
    """
    if stage.runs == 1 and not stage.start_share:
        return [stage.name]
    return [f"{stage.name}/{number}" for number in range(1, stage.runs + 1)]


def _is_of(stage: str, name: str) -> bool:
    """Whether a name on record is the stage's, or that of one of its runs."""
    return name.partition("/")[0] == stage


def check_out(out: Path, base: Path) -> None:
    """Check that a run may be written into a folder.

    Raises:
        OutputError: it cannot be written, is the base's, or holds something else than a run.
    """
    check_begun(out, _foreign, [base])


def _foreign(folder: Path) -> str | None:
    """Why a folder holds no run, if so; which run it holds is on record."""
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
    return f"contains {others[0]}, which no run wrote" if others else None


def open_record(
    recipe: Recipe, material: Mapping[str, str | int], compute: ComputeType, out: Path
) -> RunRecord:
    """The record of the run in a folder, or the empty one that a new run begins with.

    Args:
        material: what the run is trained from besides the recipe, each part by its name.
        compute: what it would be computed in here.

    Raises:
        RecipeError: the folder holds a broken record, a run of another recipe, from other
            material, or one that is not complete and was computed in another type.
    """
    if not (out / FILE).is_file():
        return RunRecord(
            recipe=recipe,
            material=dict(material),
            compute=compute,
            agreement={},
            development=[],
            kept={},
            finished=[],
            complete=False,
        )
    record = read_record(out)
    if not is_one_run(record.recipe, recipe):
        raise RecipeError(f"{out}: contains a run of another recipe; {_ANOTHER}")
    before = material if record.material is None else record.material
    for name in sorted(before.keys() | material.keys()):
        if before.get(name) != material.get(name):
            raise RecipeError(
                f"{out}: was started with {before.get(name)} as the {name}, which is now "
                f"{material.get(name)}; {_ANOTHER}"
            )
    if record.compute != compute and not record.complete:
        raise RecipeError(
            f"{out}: was started in {record.compute} and would continue in {compute}; set "
            f"compute: {record.compute} in the recipe to resume it, {_ANOTHER}"
        )
    return record


def read_record(folder: Path) -> RunRecord:
    """Read the record of the run in a folder.

    Raises:
        RecipeError: the file is broken, or of a recipe or a form that this version does not know.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise RecipeError(
            f"{path}: is not the record of a run: line {error.lineno} is not JSON: {error.msg}; "
            "choose another folder"
        ) from None
    except (ValueError, RecursionError):  # not UTF-8, or numbers or brackets without end
        content = None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: is not the record of a run; choose another folder")
    try:
        return RunRecord.model_validate(content)
    except ValidationError as error:
        raise RecipeError(
            f"{folder}: contains a run of another recipe or version: {FILE}: "
            f"{fields_at_fault(error, 'record')}; {_ANOTHER}"
        ) from None


def write_record(record: RunRecord, out: Path) -> None:
    """Replace the record of the run in a folder."""
    unknown = set()
    if record.material is None:
        unknown.add("material")
    if not record.attention:
        unknown.add("attention")
    content = record.model_dump(mode="json", exclude=unknown)
    with written_whole(out / FILE) as file:
        file.write(json.dumps(content, indent=2) + "\n")


def is_complete(folder: Path) -> bool:
    """Whether the run in a folder has ended, by the record of any version: a merge needs no more.

    Raises:
        ModelFolderError: there is no record, or it is no JSON object.
    """
    return read_json(folder / FILE).get("complete") is not False
