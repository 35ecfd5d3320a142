"""Checks that a bundle answers in the label spaces that it is trained and scored in."""

from collections.abc import Sequence

from service.conversation.labels import UNIFIED
from service.conversation.prompts import Task
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus
from training.evaluation.questions import check_labelled
from training.finetuning.selection import counted
from training.mixture.mixing import FORECAST, asked_space, trained_spaces
from training.mixture.sources import Sources
from training.recipe import Recipe, RecipeError, Stage


def check_label_spaces(
    recipe: Recipe, stages: Sequence[tuple[Stage, Sequence[Corpus]]], sources: Sources
) -> None:
    """Check that every label space of the bundle is trained by a stage.

    Raises:
        RecipeError: one is not; the message names the label space.
    """
    if not recipe.stages:
        return
    trained = {
        space.name
        for stage, corpora in stages
        if stage.tasks.main
        for corpus in corpora
        for space, _ in trained_spaces(corpus, stage, sources)
    }
    if untrained := set(recipe.label_spaces) - trained:
        raise RecipeError(
            f"recipe {recipe.name}: label_spaces: no stage trains {', '.join(sorted(untrained))}"
        )


def check_scored(recipe: Recipe, held_out: Sequence[Corpus]) -> None:
    """Check that every split to be scored has labels that the bundle answers in.

    Raises:
        RecipeError: one has none; the message names the corpus.
    """
    for corpus in held_out:
        if not {corpus.label_space.name, UNIFIED} & {*recipe.label_spaces}:
            raise RecipeError(
                f"recipe {recipe.name}: label_spaces: has neither {corpus.label_space.name} nor "
                f"{UNIFIED}, one of which {corpus.path} needs to be scored"
            )


def check_development(recipe: Recipe, development: Sequence[Corpus]) -> None:
    """Check that epochs can be compared on every development corpus.

    Raises:
        RecipeError: a corpus has no label that could be scored, or a stage that keeps its best
            epoch would choose it in a label space that the bundle does not answer in; the message
            names stage and corpus.
    """
    for corpus in development:
        _check_has_labels(corpus, "main", f"recipe {recipe.name}: development")
        for stage in recipe.stages:
            if stage.keep == "best":
                _check_choice(recipe, stage, corpus)


def _check_choice(recipe: Recipe, stage: Stage, corpus: Corpus) -> None:
    where = f"recipe {recipe.name}: stage {stage.name}: keep: best"
    last = recipe.stages[-1]  # decides what all stages are asked
    space = asked_space(corpus, last)
    if space not in recipe.label_spaces:
        raise RecipeError(
            f"{where}: {corpus.path} is scored in {space}, which is not one of label_spaces: "
            f"{', '.join(recipe.label_spaces)}"
        )
    if last.tasks.prediction and counted(stage) == {FORECAST}:
        _check_has_labels(corpus, "prediction", where)


def _check_has_labels(corpus: Corpus, task: Task, where: str) -> None:
    try:
        check_labelled(corpus, task)
    except DatasetError as error:
        raise RecipeError(f"{where}: cannot be scored: {error}") from None
