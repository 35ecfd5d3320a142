"""The teachers that a stage's pseudo-labels come from: an earlier stage, or a trained model."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.decoding.bundle import load_bundle, read_bundle
from service.decoding.precision import ComputeType
from training.arrays import Floats
from training.datasets.fingerprint import fingerprint
from training.datasets.reading import Corpus
from training.finetuning.label_probabilities import probabilities
from training.finetuning.loading import load_causal
from training.finetuning.processes import device
from training.finetuning.row_attention import RowAttention
from training.finetuning.row_sharing import agree_on_attention
from training.mixture.pseudo_labels import Teacher
from training.mixture.sources import Sources
from training.mixture.tasks import LabelledExample, PromptSettings, settings_of_bundle
from training.recipe import Recipe, RecipeError, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Loaded = tuple[Any, "PreTrainedModel", RowAttention]
"""A model in evaluation mode: what is called, its language model, how it attends within rows."""


def check_teacher(
    recipe: Recipe,
    stages: Sequence[tuple[Stage, Sequence[Corpus]]],
    sources: Sources,
    held_out: Sequence[Corpus],
) -> None:
    """Check that the trained model that a recipe learns from can teach it.

    Args:
        stages: with the corpora that they train on.

    Raises:
        RecipeError: the recipe names a model and none is given, or the other way round, or another
            one is given, one that was not trained on a label space of the stage's corpora, or one
            that was trained on a held-out file.
        ModelFolderError: the folder holds no bundle that could be served.
    """
    folder, name = sources.teacher, recipe.teacher
    if name is None and folder is None:
        return
    if name is None:
        raise RecipeError(f"recipe {recipe.name}: no stage has pseudo_labels of a bundle: {folder}")
    what = f"recipe {recipe.name}: pseudo_labels: bundle: {name}"
    if folder is None:
        raise RecipeError(f"{what}: name its folder with --teacher")
    bundle = load_bundle(folder, sources.label_spaces)
    if bundle.name != name:
        raise RecipeError(f"{what}: {folder} contains {bundle.name}")
    read = set(bundle.data.values())
    for corpus in held_out:
        if fingerprint(corpus.path) in read:
            raise RecipeError(f"{what}: was trained on {corpus.path}, which is held out")
    for stage, corpora in stages:
        if stage.pseudo_labels and stage.pseudo_labels.bundle:
            spaces = {corpus.label_space.name for corpus in corpora}
            if unknown := spaces - bundle.label_spaces.keys():
                raise RecipeError(f"{what}: was not trained on {', '.join(sorted(unknown))}")


def runs_of_a_stage(
    load: Iterable[Callable[[], Loaded]], settings: PromptSettings, compute: ComputeType
) -> Teacher:
    """The runs of a finished stage as one teacher: the mean of their probabilities.

    Args:
        load: loads a run, for each of them; one is in memory at a time.
    """
    runs = tuple(load)

    def ask(examples: Sequence[LabelledExample]) -> list[Floats]:
        by_run = []
        for load_run in runs:
            model, causal, attention = load_run()
            by_run.append(probabilities(model, causal, examples, settings, compute, attention))
        return [np.mean(rows, axis=0) for rows in zip(*by_run, strict=True)]

    return Teacher(settings, ask)


def trained_model(folder: Path, compute: ComputeType) -> Teacher:
    """The model of a bundle as teacher, in memory as long as the teacher is.

    It is asked with the prompts that it is served with.
    """
    settings = settings_of_bundle(read_bundle(folder), folder)
    causal = load_causal(folder, compute, dtype="auto")
    causal.to(device()).eval()
    attention = agree_on_attention(causal, compute)

    def ask(examples: Sequence[LabelledExample]) -> list[Floats]:
        return probabilities(causal, causal, examples, settings, compute, attention)

    return Teacher(settings, ask)
