"""Checks everything that a training run depends on, before anything is trained or written.

What costs least comes first: corpora and their labels are checked in seconds, before transformers
is imported. A run goes on only where the fingerprints of its inputs are the same.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.decoding.bundle import Bundle
from service.decoding.precision import ComputeType, compute_type
from service.demonstrations.corpus import edition_of
from service.outputs import check_file
from training.datasets.fingerprint import fingerprint
from training.datasets.leakage import without_held_out
from training.datasets.reading import Corpus
from training.finetuning.adapters import check_base
from training.finetuning.bases import base_revision
from training.finetuning.description import bundle_of
from training.finetuning.label_spaces import (
    check_development,
    check_label_spaces,
    check_scored,
)
from training.finetuning.memory import recomputes
from training.finetuning.model_inspection import look_at_base, without_weights
from training.finetuning.processes import device
from training.finetuning.run_record import check_out
from training.finetuning.sharding import check_sharding
from training.finetuning.teachers import check_teacher
from training.mixture.mixing import check_prompts
from training.mixture.pools import SHIPPED_POOL
from training.mixture.pseudo_labels import check_pseudo_labels
from training.mixture.sampling import sampled
from training.mixture.sources import Sources
from training.mixture.targets import check_balance
from training.mixture.tasks import PromptSettings, prompt_settings
from training.recipe import Recipe, Stage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """A run that passed every check, with what was read for them.

    Attributes:
        base: the folder of the base model.
        stages: each with the corpora it trains on: without held-out dialogues, sampled.
        development: the corpora that epochs are scored on.
        held_out: those, and the test splits that are there.
        bundle: describes the bundle that a merge makes of the run.
        compute: the type that the model computes in.
        recompute: whether activations are computed again in the backward pass.
    """

    recipe: Recipe
    base: Path
    sources: Sources
    stages: Sequence[tuple[Stage, Sequence[Corpus]]]
    development: Sequence[Corpus]
    held_out: Sequence[Corpus]
    settings: PromptSettings
    bundle: Bundle
    compute: ComputeType
    recompute: bool

    def material(self, stages: int | None = None) -> Mapping[str, str | int]:
        """Fingerprints of the inputs of the first stages, or of all (`material_of`)."""
        return material_of(self.recipe, self.bundle, self.stages[:stages], self.sources)


def check_run(
    recipe: Recipe, base: Path, sources: Sources, out: Path, demonstrations: Path | None = None
) -> CheckedRun:
    """Check that a run can be trained, served and scored as its recipe says.

    Args:
        base: the folder of the base model; its weights are not loaded.
        out: the run's folder.
        demonstrations: the file that the run writes its pool of demonstrations to, if any.

    Raises:
        DatasetError, RecipeError, OutputError, ModelFolderError, OSError: as
            `training.finetuning.finetune.train`.
    """
    check_out(out, base)
    if demonstrations is not None and not demonstrations.exists():
        check_file(demonstrations)
    look_at_base(base)
    sources.check_there(recipe.corpora())
    development = sources.corpora(recipe.development)
    check_development(recipe, development)
    held_out = [*development, *_test_corpora(recipe, sources)]
    stages = [(stage, _stage_corpora(recipe, stage, sources, held_out)) for stage in recipe.stages]
    check_label_spaces(recipe, stages, sources)
    check_scored(recipe, held_out)
    for stage, corpora in stages:
        check_balance(corpora, stage, sources)
        check_pseudo_labels(corpora, stage)
    check_teacher(recipe, stages, sources, held_out)
    check_base(recipe, base)
    settings = prompt_settings(recipe, base)
    check_prompts(recipe, stages, sources, settings)
    check_sharding(recipe)
    return CheckedRun(
        recipe=recipe,
        base=base,
        sources=sources,
        stages=stages,
        development=development,
        held_out=held_out,
        settings=settings,
        bundle=bundle_of(recipe, base_revision(base), sources, stages),
        compute=compute_type(recipe.compute, device().type),
        recompute=recomputes(recipe, without_weights(base)),
    )


def _test_corpora(recipe: Recipe, sources: Sources) -> list[Corpus]:
    """The test splits that are present; dialogues of absent ones cannot be left out."""
    present = []
    for file in recipe.test:
        if (sources.data / file.path).exists():
            present.append(file)
        else:
            log.info("%s: does not exist, so its dialogues are not excluded", file.path)
    return sources.corpora(present)


def _stage_corpora(
    recipe: Recipe, stage: Stage, sources: Sources, held_out: Sequence[Corpus]
) -> list[Corpus]:
    """A stage's corpora, without held-out dialogues, with the labels of its sample."""
    corpora = without_held_out(sources.corpora(stage.corpora), held_out)
    return sampled(corpora, stage.sample, recipe.seed)


def material_of(
    recipe: Recipe,
    bundle: Bundle,
    stages: Sequence[tuple[Stage, Sequence[Corpus]]],
    sources: Sources,
) -> dict[str, str | int]:
    """Fingerprints, by name, of the inputs that decide what stages learn.

    Args:
        bundle: says which base, encoder and corpus files.
        stages: with the corpora that they train on.
    """
    labels = repr([sources.label_spaces[name] for name in recipe.label_spaces])
    material: dict[str, str | int] = {
        "base": bundle.base.revision,
        "encoder": bundle.encoder,
        "labels": hashlib.sha256(labels.encode()).hexdigest(),
    }
    for file in recipe.development:
        material[f"contents of {file.path.as_posix()}"] = fingerprint(sources.data / file.path)
    for stage, corpora in stages:
        if stage.pseudo_labels and stage.pseudo_labels.bundle and sources.teacher:
            material["teacher"] = base_revision(sources.teacher)
        if stage.demonstrations.shown and SHIPPED_POOL in stage.demonstrations.pools:
            material["shipped demonstrations"] = edition_of(sources.shipped, bundle.encoder)
        for file, corpus in zip(stage.corpora, corpora, strict=True):
            name = file.path.as_posix()
            material[f"contents of {name}"] = bundle.data[name]
            # Which are left out depends on the splits that are held out.
            material[f"number of training dialogues in {name}"] = len(corpus.dialogues)
    return material
