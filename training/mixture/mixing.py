"""The examples that a stage trains on: corpora, label spaces, tasks and demonstrations, mixed."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from random import Random
from types import MappingProxyType

from service.conversation.dialogue import Dialogue
from service.conversation.labels import UNIFIED, LabelSpace
from training.datasets.reading import Corpus
from training.datasets.relabelling import in_label_space
from training.mixture.pools import ByUtterance, Pools, Shown
from training.mixture.sources import Sources
from training.mixture.tasks import (
    MAIN,
    TASKS,
    LabelledExample,
    PromptSettings,
    check_room,
    main_task,
    prediction_task,
    speaker_task,
)
from training.recipe import Demonstrations, Recipe, Stage, Tasks

log = logging.getLogger(__name__)

Soft = Mapping[tuple[str, Path, str], Mapping[int, Sequence[float]]]
"""Soft labels: by label space, corpus and dialogue id, for each utterance index how much each label
counts, in the label space's order.
"""

# What held-out dialogues are asked, behind the name of their label space.
WITHOUT, WITH = "without demonstrations", "with demonstrations"
FORECAST = "prediction"


def mix(
    corpora: Sequence[Corpus],
    stage: Stage,
    pools: Pools,
    sources: Sources,
    settings: PromptSettings,
    seed: int,
    epoch: int = 0,
    soft: Soft = MappingProxyType({}),
) -> list[LabelledExample]:
    """One epoch of a stage: every corpus in its own label space, in the unified one, or in both.

    A share of the utterances has demonstrations, each from one of the stage's pools, chosen at
    random.

    Args:
        seed: draws, with `epoch`, what is chosen at random.
        soft: what the main task should answer, where that is not an utterance's label alone.
    """
    random = Random(f"{seed} {epoch}")
    examples: list[LabelledExample] = []
    for corpus in corpora:
        tasks = stage.tasks
        if corpus.pseudo_labelled:  # the teacher was asked about the main task
            tasks = tasks.model_copy(update={"speaker": 0.0, "prediction": 0.0})
        for space, share in trained_spaces(corpus, stage, sources):
            nearest = _nearest(corpus, space, stage.demonstrations, pools)
            truncated = 0
            for dialogue in in_label_space(corpus, space):
                shown = _drawn(nearest, dialogue, stage, random)
                if random.random() >= share:
                    continue
                known = soft.get((space.name, corpus.path, dialogue.id), {})
                asked = list(_of_dialogue(dialogue, space, tasks, settings, shown, known))
                truncated += sum(e.truncated for e in asked if e.example.task == MAIN)
                # Tasks of one utterance side by side: their prompts may begin alike.
                examples.extend(sorted(asked, key=attrgetter("index")))
            if truncated and not epoch:
                log.info(
                    "%s: %d utterances, in %s, are too long for %d tokens: only their ends are "
                    "read",
                    *(corpus.path, truncated, space.name, settings.limit),
                )
    return examples


def held_out(
    corpora: Sequence[Corpus],
    stage: Stage,
    pools: Pools,
    sources: Sources,
    settings: PromptSettings,
) -> dict[str, list[LabelledExample]]:
    """The examples that a stage is scored on: every utterance, in own or in unified labels.

    Without demonstrations, with the nearest of any label from the stage's pools where it shows
    any, and the prediction task where it is trained.

    Returns:
        Examples by what is asked, such as "meld, with demonstrations".
    """
    asked = stage.demonstrations.model_copy(update={"pairing": "any_label", "dropout": None})
    made: dict[str, list[LabelledExample]] = defaultdict(list)
    for corpus in corpora:
        space = sources.label_spaces[asked_space(corpus, stage)]
        nearest = _nearest(corpus, space, asked, pools)
        for dialogue in in_label_space(corpus, space):
            made[f"{space.name}, {WITHOUT}"] += main_task(dialogue, space, settings, {})
            if nearest:
                indexes = range(len(dialogue.utterances))
                shown = {index: nearest[0][dialogue.id, index] for index in indexes}
                made[f"{space.name}, {WITH}"] += main_task(dialogue, space, settings, shown)
            if stage.tasks.prediction:
                made[f"{space.name}, {FORECAST}"] += prediction_task(dialogue, space, settings)
    return made


def asked_space(corpus: Corpus, stage: Stage) -> str:
    """The label space that a held-out corpus is asked in: its own, where the stage trains own."""
    return corpus.label_space.name if stage.own or not stage.unified else UNIFIED


def check_prompts(
    recipe: Recipe,
    stages: Sequence[tuple[Stage, Sequence[Corpus]]],
    sources: Sources,
    settings: PromptSettings,
) -> None:
    """Check that the prompts of a recipe have room for utterances of any length.

    Raises:
        RecipeError: `max_tokens` leaves no room for the utterance.
    """
    for name in recipe.label_spaces:
        check_room(sources.label_spaces[name], ["main"], settings)
    for stage, corpora in stages:
        tasks = [task for task in TASKS if getattr(stage.tasks, task)]
        for corpus in corpora:
            for space, _ in trained_spaces(corpus, stage, sources):
                check_room(space, tasks, settings)


def trained_spaces(
    corpus: Corpus, stage: Stage, sources: Sources
) -> list[tuple[LabelSpace, float]]:
    """The label spaces a corpus trains in, with the share of its dialogues."""
    if corpus.pseudo_labelled:
        return [(corpus.label_space, stage.pseudo_labels.share if stage.pseudo_labels else 0.0)]
    if corpus.label_space.name == UNIFIED:
        return [(corpus.label_space, max(stage.own, stage.unified))]
    both = ((corpus.label_space, stage.own), (sources.label_spaces[UNIFIED], stage.unified))
    return [(space, share) for space, share in both if share]


def _nearest(
    corpus: Corpus, space: LabelSpace, asked: Demonstrations, pools: Pools
) -> list[ByUtterance]:
    """From each pool the demonstrations for the corpus's utterances, if any are asked for."""
    if not asked.shown:
        return []
    return [pools.nearest(corpus, pool, space, asked) for pool in asked.pools]


def _drawn(
    nearest: Sequence[ByUtterance], dialogue: Dialogue, stage: Stage, random: Random
) -> dict[int, Shown]:
    """For a share of a dialogue's utterances, by index, demonstrations from a pool drawn of them.

    Args:
        nearest: of each pool.
    """
    return {
        index: random.choice(nearest)[dialogue.id, index]
        for index in range(len(dialogue.utterances))
        if nearest and random.random() < stage.demonstrations.share
    }


def _of_dialogue(
    dialogue: Dialogue,
    space: LabelSpace,
    tasks: Tasks,
    settings: PromptSettings,
    shown: Mapping[int, Shown],
    soft: Mapping[int, Sequence[float]],
) -> Iterator[LabelledExample]:
    """Every task's examples of a dialogue."""
    if tasks.main:
        yield from main_task(dialogue, space, settings, shown, soft)
    if tasks.speaker:
        yield from speaker_task(dialogue, space, settings)
    if tasks.prediction:
        yield from prediction_task(dialogue, space, settings)
