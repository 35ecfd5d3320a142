"""Whether a bundle will answer in the label spaces that it is trained and scored in."""

from collections.abc import Sequence

from service.conversation.labels import UNIFIED
from training.datasets.reading import Corpus
from training.mixture.mixing import trained_spaces
from training.mixture.sources import Sources
from training.recipe import Recipe, RecipeError, Stage


def check_label_spaces(
    recipe: Recipe, stages: Sequence[tuple[Stage, Sequence[Corpus]]], sources: Sources
) -> None:
    """See that the bundle will answer in no label space that the model never saw.

    Raises:
        RecipeError: it would; the message names the label space.
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
    """See that what is to be scored has labels that the bundle answers in.

    Raises:
        RecipeError: it has none; the message names the corpus.
    """
    for corpus in held_out:
        if not {corpus.label_space.name, UNIFIED} & {*recipe.label_spaces}:
            raise RecipeError(
                f"recipe {recipe.name}: label_spaces: {corpus.path} is to be scored, and none of "
                f"its labels, {corpus.label_space.name} and {UNIFIED}, is among them"
            )
