"""Which examples a stage trains on: corpora, labels, tasks and demonstrations, mixed as it says."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from random import Random
from types import MappingProxyType

from service.conversation.dialogue import Demonstration, Dialogue
from service.conversation.labels import UNIFIED, LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus, read_corpus
from training.datasets.text import words
from training.leakage import check_apart
from training.pairing import (
    EncodeTexts,
    Pool,
    Query,
    Vectors,
    dialogues_of_lines,
    pool_of_corpora,
    pool_of_demonstrations,
)
from training.recipe import CorpusFile, Demonstrations, Stage
from training.tasks import (
    MAIN,
    LabelledExample,
    PromptSettings,
    main_task,
    prediction_task,
    speaker_task,
    with_unified_labels,
)

log = logging.getLogger(__name__)

Shown = tuple[Demonstration, ...]
Soft = Mapping[tuple[str, Path, str], Mapping[int, Sequence[float]]]
"""Soft labels: by label space, corpus and dialogue id, for each utterance index how much each label
counts, in the label space's order.
"""

SHIPPED_POOL = "shipped"

# What held-out dialogues are asked, behind the name of their label space.
WITHOUT, WITH = "without demonstrations", "with demonstrations"
FORECAST = "prediction"


@dataclass(frozen=True, slots=True)
class Sources:
    """What a run reads besides its recipe.

    Attributes:
        data: the folder that corpus paths are relative to.
        shipped: the demonstrations that the service ships with.
    """

    data: Path
    label_spaces: Mapping[str, LabelSpace]
    shipped: Sequence[Demonstration]
    encode_texts: EncodeTexts

    def corpora(self, files: Sequence[CorpusFile]) -> list[Corpus]:
        """Read corpus files.

        Raises:
            DatasetError: a file is not what its entry says.
        """
        return [
            read_corpus(f.format, self.data / f.path, self.label_spaces, f.label_space)
            for f in files
        ]


class Pools:
    """The demonstration pools that prompts draw from, each made once.

    Args:
        corpora: what the "train" pool is made of.
        held_out: development and test splits, of which no dialogue may be shown.

    Raises:
        DatasetError: a dialogue of the corpora is held out; the message names it.
    """

    def __init__(
        self,
        sources: Sources,
        corpora: Sequence[Corpus],
        seed: int,
        held_out: Sequence[Corpus],
    ) -> None:
        check_apart(corpora, held_out)
        self._sources = sources
        self._corpora = corpora
        self._seed = seed
        self._paths = {corpus.path for corpus in corpora}
        self._dialogues_of_lines = dialogues_of_lines(corpora)
        self._made: dict[tuple[str, str, bool], Pool] = {}
        self._vectors: dict[Path, Vectors] = {}
        self._found: dict[tuple[Path, str, str, Demonstrations], list[Shown]] = {}

    def with_seed(self, seed: int) -> "Pools":
        """The same corpora's, drawn anew; what is encoded already is not encoded again."""
        pools = copy(self)
        pools._seed, pools._made, pools._found = seed, {}, {}
        return pools

    def get(self, name: str, label_space: LabelSpace, balanced: bool = True) -> Pool:
        """The pool called `name` ("train" or "shipped") in a label space."""
        key = (name, label_space.name, balanced)
        if key not in self._made:
            self._made[key] = self._make(name, label_space, balanced)
        return self._made[key]

    def nearest(
        self, corpus: Corpus, name: str, label_space: LabelSpace, asked: Demonstrations
    ) -> list[Shown]:
        """The nearest of a pool for each utterance of a corpus; searched once, asked each epoch."""
        key = (corpus.path, name, label_space.name, asked)
        if key not in self._found:
            self._found[key] = self.get(name, label_space, asked.balanced).nearest(
                self.vectors(corpus),
                self._queries(corpus, label_space, asked),
                asked.count,
                same_text=asked.same_text,
            )
        return self._found[key]

    def vectors(self, corpus: Corpus) -> Vectors:
        """Of every utterance of a corpus, in order; encoded once."""
        if corpus.path not in self._vectors:
            texts = [u.text for d in corpus.dialogues for u in d.utterances]
            self._vectors[corpus.path] = self._sources.encode_texts(texts)
        return self._vectors[corpus.path]

    def _queries(
        self, corpus: Corpus, label_space: LabelSpace, asked: Demonstrations
    ) -> list[Query]:
        random = Random(self._seed)
        any_label = {"any_label": 1.0, "same_label": 0.0, "label_dropout": asked.dropout or 0.0}
        return [
            Query(
                u.text,
                d.id,
                None if random.random() < any_label[asked.pairing] else u.label,
                elsewhere,
            )
            for d in in_label_space(corpus, label_space)
            for elsewhere in (self._elsewhere(corpus, d),)
            for u in d.utterances
        ]

    def _elsewhere(self, corpus: Corpus, dialogue: Dialogue) -> set[str]:
        """The dialogues of other corpora that have a line of a dialogue too, if it trains."""
        if corpus.path not in self._paths:
            return set()
        return {
            other
            for utterance in dialogue.utterances
            for path, other in self._dialogues_of_lines.get(words(utterance.text), ())
            if path != corpus.path
        }

    def _make(self, name: str, label_space: LabelSpace, balanced: bool) -> Pool:
        encode = self._sources.encode_texts
        if name == SHIPPED_POOL:
            return pool_of_demonstrations(self._sources.shipped, label_space, encode)
        dialogues = [d for corpus in self._corpora for d in in_label_space(corpus, label_space)]
        return pool_of_corpora(dialogues, label_space, encode, self._seed, balanced=balanced)


def in_label_space(corpus: Corpus, label_space: LabelSpace) -> Sequence[Dialogue]:
    """The corpus's dialogues labelled in a label space; none where it has no labels there."""
    if corpus.label_space.name == label_space.name:
        return corpus.dialogues
    if label_space.name == UNIFIED:
        return with_unified_labels(corpus.dialogues, corpus.label_space)
    return ()


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
        own = stage.own or not stage.unified
        space = corpus.label_space if own else sources.label_spaces[UNIFIED]
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
