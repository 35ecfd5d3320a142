"""Soft targets of the main task, where they are more than an utterance's label.

Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531, section 2): a share of each target is
a teacher's probabilities, which say what else an utterance sounds like. The teacher is the
classifier that a model is compared with (`training.mixture.classifier`), and it is asked about no
dialogue that it was fitted on: of those it would repeat the labels. A scene that two corpora have
is two dialogues to it.

Class-balanced loss (Cui et al. 2019, arXiv 1901.05555, section 3, with a power of the label's
frequency for its weight): rare labels count for more, or a model hardly ever says them.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.conversation.labels import LabelSpace
from training.arrays import Floats
from training.datasets.reading import Corpus
from training.datasets.relabelling import in_label_space
from training.mixture.classifier import Split, classified, split_of
from training.mixture.mixing import Soft, trained_spaces
from training.mixture.pools import Pools
from training.mixture.sources import Sources
from training.recipe import RecipeError, Stage

log = logging.getLogger(__name__)

_FOLDS = 5


def check_balance(corpora: Sequence[Corpus], stage: Stage, sources: Sources) -> None:
    """Check that a stage trains the label spaces that it balances.

    Raises:
        RecipeError: it does not.
    """
    trained = {space.name for c in corpora for space, _ in trained_spaces(c, stage, sources)}
    if unknown := stage.balance.keys() - trained:
        raise RecipeError(
            f"stage {stage.name}: balance: the stage does not train {', '.join(sorted(unknown))}"
        )


def soft_labels(corpora: Sequence[Corpus], stage: Stage, sources: Sources, pools: Pools) -> Soft:
    """The targets of a stage's utterances in each label space that they train in.

    A share of each is its own label, the rest (`stage.distillation`) the teacher's; both are
    weighed by label (`stage.balance`). Empty where each target is the label alone.

    Args:
        pools: has the corpora's vectors.
    """
    made: dict[tuple[str, Path, str], dict[int, tuple[float, ...]]] = defaultdict(dict)
    trained: dict[str, list[Corpus]] = defaultdict(list)
    spaces: dict[str, LabelSpace] = {}
    for corpus in corpora:
        for space, _ in trained_spaces(corpus, stage, sources):
            trained[space.name].append(corpus)
            spaces[space.name] = space
    for name, space in spaces.items():
        if not stage.distillation and not stage.balance.get(name):
            continue
        whose = [(c, dialogue) for c in trained[name] for dialogue in in_label_space(c, space)]
        if all(u.label is None for _, dialogue in whose for u in dialogue.utterances):
            continue  # the stage's sample has none of them
        vectors = np.concatenate([pools.vectors(corpus) for corpus in trained[name]])
        split = split_of([dialogue for _, dialogue in whose], space, vectors)
        labels = len(space.names)
        targets = np.eye(labels)[split.gold]
        if stage.distillation:
            taught = teacher_probabilities(split, labels)
            agreement = float((taught.argmax(1) == split.gold).mean())
            log.info("the teacher agrees with %.1f%% of the labels of %s", 100 * agreement, name)
            targets = (1 - stage.distillation) * targets + stage.distillation * taught
        shares = np.bincount(split.gold, minlength=labels) / len(split.gold)
        targets *= weights(shares, stage.balance.get(name, 0.0))
        for (dialogue, index, _), number, row in zip(
            split.places, split.dialogues, targets, strict=True
        ):
            made[name, whose[number][0].path, dialogue][index] = tuple(map(float, row))
    return made


def teacher_probabilities(split: Split, labels: int) -> Floats:
    """The teacher's probabilities for each utterance, fitted on other dialogues only.

    Returns:
        Shape (utterances, labels); uniform where the other dialogues have a single label, or where
        there are none.
    """
    probabilities = np.empty((len(split.gold), labels))
    for fold in range(_FOLDS):
        asked = split.dialogues % _FOLDS == fold
        if not asked.any():
            continue
        if len(np.unique(split.gold[~asked])) < 2:
            probabilities[asked] = 1 / labels
            continue
        probabilities[asked] = classified(split, ~asked, split.contexts[asked], labels)
    return probabilities


def weights(shares: Floats, power: float) -> Floats:
    """How much each label counts: its frequency to the power of minus `power`; 1 in the mean.

    Args:
        shares: shape (labels,), of the utterances; 1 in all.

    Returns:
        Shape (labels,); 0 for a label that no utterance has.
    """
    unscaled: Floats = np.zeros(len(shares))
    unscaled[shares > 0] = shares[shares > 0] ** -power
    return unscaled / (unscaled @ shares)
