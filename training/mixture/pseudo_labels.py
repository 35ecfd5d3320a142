"""Labels corpora in each other's label spaces by what models predict together.

Pseudo-labels (Lee 2013, "Pseudo-Label", ICML workshop; soft, as in Xie et al. 2020, arXiv
1911.04252, section 2): the models have read these dialogues, but under other labels, so that they
cannot repeat what they know by heart. A student learns what only the models together know, and
twice as many dialogues in each label space.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.conversation.dialogue import Dialogue
from service.conversation.labels import UNIFIED, LabelSpace
from training.arrays import Floats
from training.datasets.reading import Corpus
from training.datasets.relabelling import relabelled
from training.mixture.mixing import Soft
from training.mixture.targets import weights
from training.mixture.tasks import LabelledExample, PromptSettings, main_task
from training.recipe import RecipeError, Stage

log = logging.getLogger(__name__)

Ask = Callable[[Sequence[LabelledExample]], Sequence[Floats]]
"""Label probabilities for each example, shape (labels,), in its label space's order."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What pseudo-labels are made by, and the prompts that it is asked with."""

    settings: PromptSettings
    ask: Ask


def check_pseudo_labels(corpora: Sequence[Corpus], stage: Stage) -> None:
    """Check that corpora can be labelled in each other's label spaces, where the stage asks for it.

    Raises:
        RecipeError: they have the same one.
    """
    if stage.pseudo_labels is not None and len(_own(corpora)) < 2:
        raise RecipeError(
            f"stage {stage.name}: pseudo_labels: needs corpora of several label spaces"
        )


def pseudo_labelled(
    corpora: Sequence[Corpus], stage: Stage, teacher: Teacher
) -> tuple[list[Corpus], Soft]:
    """Each corpus in the others' own label spaces.

    Returns:
        The corpora, labelled with what is likeliest, and soft labels to train on, weighed by label
        as the stage says (`stage.balance`).
    """
    made: list[Corpus] = []
    soft: dict[tuple[str, Path, str], dict[int, tuple[float, ...]]] = defaultdict(dict)
    for corpus in corpora:
        for name, space in _own(corpora).items():
            if name == corpus.label_space.name:
                continue
            probabilities = _probabilities(corpus.dialogues, space, teacher)
            rows = [row for known in probabilities for row in known.values()]
            if not rows:
                continue
            likely = np.mean(rows, axis=0)
            counts = weights(likely, stage.balance.get(name, 0.0))
            dialogues = []
            for dialogue, known in zip(corpus.dialogues, probabilities, strict=True):
                dialogues.append(_labelled(dialogue, space, known))
                for index, row in known.items():
                    soft[name, corpus.path, dialogue.id][index] = tuple(map(float, row * counts))
            log.info("%s has pseudo-labels of %s, %s", corpus.path, name, np.round(likely, 3))
            made.append(Corpus(corpus.path, space, tuple(dialogues), pseudo_labelled=True))
    return made, soft


def _own(corpora: Sequence[Corpus]) -> dict[str, LabelSpace]:
    """The label spaces that the corpora were labelled in, by name."""
    return {c.label_space.name: c.label_space for c in corpora if c.label_space.name != UNIFIED}


def _probabilities(
    dialogues: Sequence[Dialogue], space: LabelSpace, teacher: Teacher
) -> list[dict[int, Floats]]:
    """Label probabilities for each dialogue, by utterance index."""
    # An example has a label, which is not asked about: any one.
    examples = [
        main_task(relabelled(dialogue, lambda *_: space.names[0]), space, teacher.settings, {})
        for dialogue in dialogues
    ]
    rows = iter(teacher.ask([example for of_dialogue in examples for example in of_dialogue]))
    return [{example.index: next(rows) for example in of_dialogue} for of_dialogue in examples]


def _labelled(dialogue: Dialogue, space: LabelSpace, known: Mapping[int, Floats]) -> Dialogue:
    """With the likeliest labels."""
    return relabelled(dialogue, lambda index, _: space.names[int(known[index].argmax())])
