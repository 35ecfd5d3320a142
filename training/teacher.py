"""What a teacher makes of the utterances that a model trains on.

Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531, section 2): a share of each target is
a teacher's probabilities, which say what else an utterance sounds like. The teacher is the
classifier that a model is compared with (`training.baselines`), and it is asked about no dialogue
that it was fitted on: of those it would repeat the labels.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.conversation.labels import LabelSpace
from training.baselines import Split, classified, encode_split
from training.datasets.reading import Corpus
from training.mixing import Soft, Sources, in_label_space, trained_spaces
from training.predictions import Floats
from training.recipe import Stage

log = logging.getLogger(__name__)

_FOLDS = 5


def soft_labels(corpora: Sequence[Corpus], stage: Stage, sources: Sources) -> Soft:
    """The targets of a stage's utterances in each label space that they train in.

    A share of each is its own label, the rest (`stage.distillation`) the teacher's. Empty where the
    stage has no teacher.
    """
    made: dict[tuple[str, Path, str], dict[int, tuple[float, ...]]] = defaultdict(dict)
    if not stage.distillation:
        return made
    trained: dict[str, list[Corpus]] = defaultdict(list)
    spaces: dict[str, LabelSpace] = {}
    for corpus in corpora:
        for space, _ in trained_spaces(corpus, stage, sources):
            trained[space.name].append(corpus)
            spaces[space.name] = space
    for name, space in spaces.items():
        whose = [(c, dialogue) for c in trained[name] for dialogue in in_label_space(c, space)]
        split = encode_split([dialogue for _, dialogue in whose], space, sources.encode_texts)
        said = cross_fitted(split, len(space.names))
        agreement = float((said.argmax(1) == split.gold).mean())
        log.info("the teacher agrees with %.1f%% of the labels of %s", 100 * agreement, name)
        targets = stage.distillation * said
        targets[np.arange(len(split.gold)), split.gold] += 1 - stage.distillation
        for (dialogue, index, _), number, row in zip(
            split.places, split.dialogues, targets, strict=True
        ):
            made[name, whose[number][0].path, dialogue][index] = tuple(map(float, row))
    return made


def cross_fitted(split: Split, labels: int) -> Floats:
    """What the classifier says of each utterance when it knows other dialogues only.

    Returns:
        Shape (utterances, labels). Where the other dialogues have a single label, or there are
        none, nothing is known, and all are equally likely.
    """
    said = np.empty((len(split.gold), labels))
    for fold in range(_FOLDS):
        asked = split.dialogues % _FOLDS == fold
        if not asked.any():
            continue
        if len(np.unique(split.gold[~asked])) < 2:
            said[asked] = 1 / labels
            continue
        said[asked] = classified(split, ~asked, split.contexts[asked], labels)
    return said
