"""Which examples a stage trains on: corpora, labels, tasks and demonstrations, mixed as it says."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from random import Random
from types import MappingProxyType

from service.conversation.dialogue import Dialogue
from service.conversation.labels import UNIFIED, LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus
from training.datasets.relabelling import in_label_space
from training.mixture.pools import Pools, Shown
from training.mixture.sources import Sources
from training.mixture.tasks import (
    MAIN,
    LabelledExample,
    PromptSettings,
    main_task,
    prediction_task,
    speaker_task,
)
from training.recipe import Demonstrations, Stage

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
        for space, share in trained_spaces(corpus, stage, sources):
            found = _found(corpus, space, stage.demonstrations, pools)
            position = too_long = 0
            for dialogue in in_label_space(corpus, space):
                shown = _drawn(found, len(dialogue.utterances), position, stage, random)
                position += len(dialogue.utterances)
                if random.random() >= share:
                    continue
                known = soft.get((space.name, corpus.path, dialogue.id), {})
                asked = list(_of_dialogue(dialogue, space, stage, settings, shown, known))
                if stage.tasks.main and not epoch:
                    too_long += len(_left_out(dialogue, asked))
                # Tasks of one utterance side by side: their prompts may begin alike.
                examples.extend(sorted(asked, key=attrgetter("index")))
            if too_long:
                log.info(
                    "%s: the prompts of %d utterances, in %s, are longer than %d tokens: left out",
                    *(corpus.path, too_long, space.name, settings.limit),
                )
    return examples


def held_out(
    corpora: Sequence[Corpus],
    stage: Stage,
    pools: Pools,
    sources: Sources,
    settings: PromptSettings,
) -> dict[str, list[LabelledExample]]:
    """What a stage is scored on: every utterance, in the corpora's own labels, or unified ones.

    Without demonstrations, with the nearest of any label from the stage's pools where it shows
    any, and the prediction task where it is trained.

    Returns:
        Examples by what is asked, such as "meld, with demonstrations".
    """
    asked = stage.demonstrations.model_copy(update={"pairing": "any_label", "dropout": None})
    made: dict[str, list[LabelledExample]] = defaultdict(list)
    for corpus in corpora:
        space = sources.label_spaces[asked_space(corpus, stage)]
        found = _found(corpus, space, asked, pools)[:1]
        position = 0
        for dialogue in in_label_space(corpus, space):
            size = len(dialogue.utterances)
            made[f"{space.name}, {WITHOUT}"] += main_task(dialogue, space, settings, {})
            if found:
                shown = {index: found[0][position + index] for index in range(size)}
                made[f"{space.name}, {WITH}"] += main_task(dialogue, space, settings, shown)
            if stage.tasks.prediction:
                made[f"{space.name}, {FORECAST}"] += prediction_task(dialogue, space, settings)
            position += size
    return made


def asked_space(corpus: Corpus, stage: Stage) -> str:
    """The label space that a held-out corpus is asked in: its own, where the stage trains own."""
    return corpus.label_space.name if stage.own or not stage.unified else UNIFIED


def check_lengths(
    corpora: Sequence[Corpus],
    label_spaces: Collection[str],
    sources: Sources,
    settings: PromptSettings,
) -> None:
    """See that every labelled utterance can be scored in the label spaces that it may be asked in.

    Raises:
        DatasetError: a prompt is longer than the model reads; the message names the utterance.
    """
    for corpus in corpora:
        for name in {corpus.label_space.name, UNIFIED} & {*label_spaces}:
            space = sources.label_spaces[name]
            for dialogue in in_label_space(corpus, space):
                for index in _left_out(dialogue, main_task(dialogue, space, settings, {})):
                    raise DatasetError(
                        f"{corpus.path}: dialogue {dialogue.id!r}, utterances[{index}]: its prompt "
                        f"is longer than max_tokens, {settings.limit}, so it cannot be scored"
                    )


def _left_out(dialogue: Dialogue, asked: Sequence[LabelledExample]) -> list[int]:
    """The labelled utterances that the main task has no example of: too long a prompt."""
    known = {example.index for example in asked if example.example.task == MAIN}
    return [
        index
        for index, utterance in enumerate(dialogue.utterances)
        if utterance.label is not None and index not in known
    ]


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


def _found(
    corpus: Corpus, space: LabelSpace, asked: Demonstrations, pools: Pools
) -> list[list[Shown]]:
    """For each pool the demonstrations of each of the corpus's utterances, if any are asked for."""
    if not asked.shown:
        return []
    return [pools.nearest(corpus, pool, space, asked) for pool in asked.pools]


def _drawn(
    found: Sequence[Sequence[Shown]], size: int, position: int, stage: Stage, random: Random
) -> dict[int, Shown]:
    """The demonstrations of a dialogue's utterances, for a share of them."""
    return {
        index: random.choice(found)[position + index]
        for index in range(size)
        if found and random.random() < stage.demonstrations.share
    }


def _of_dialogue(
    dialogue: Dialogue,
    space: LabelSpace,
    stage: Stage,
    settings: PromptSettings,
    shown: Mapping[int, Shown],
    soft: Mapping[int, Sequence[float]],
) -> Iterator[LabelledExample]:
    """Every task's examples of a dialogue."""
    if stage.tasks.main:
        yield from main_task(dialogue, space, settings, shown, soft)
    if stage.tasks.speaker:
        yield from speaker_task(dialogue, space, settings)
    if stage.tasks.prediction:
        yield from prediction_task(dialogue, space, settings)
