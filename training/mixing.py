"""Which examples a stage trains on: corpora, label spaces and demonstrations mixed as it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from service.conversation.dialogue import Demonstration, Dialogue
from service.conversation.labels import UNIFIED, LabelSpace
from training.datasets.reading import Corpus, read_corpus
from training.pairing import EncodeTexts, Pool, Vectors, pool_of_corpora, pool_of_demonstrations
from training.recipe import CorpusFile, Stage
from training.tasks import LabelledExample, PromptSettings, main_task, with_unified_labels

TRAIN_POOL = "train"
SHIPPED_POOL = "shipped"


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
        corpora: what the "train" pool is made of; never a development or test split.
    """

    def __init__(self, sources: Sources, corpora: Sequence[Corpus], seed: int) -> None:
        self._sources = sources
        self._corpora = corpora
        self._seed = seed
        self._made: dict[tuple[str, str], Pool] = {}
        self._vectors: dict[Path, Vectors] = {}
        self._found: dict[tuple[Path, str, str, int], list[tuple[Demonstration, ...]]] = {}

    def get(self, name: str, label_space: LabelSpace) -> Pool:
        """The pool called `name` ("train" or "shipped") in a label space."""
        key = (name, label_space.name)
        if key not in self._made:
            self._made[key] = self._make(name, label_space)
        return self._made[key]

    def nearest(
        self, corpus: Corpus, name: str, label_space: LabelSpace, count: int
    ) -> list[tuple[Demonstration, ...]]:
        """The nearest of a pool for each utterance of a corpus; searched once, asked each epoch."""
        key = (corpus.path, name, label_space.name, count)
        if key not in self._found:
            if corpus.path not in self._vectors:
                texts = [u.text for d in corpus.dialogues for u in d.utterances]
                self._vectors[corpus.path] = self._sources.encode_texts(texts)
            owners = [d.id for d in corpus.dialogues for _ in d.utterances]
            pool = self.get(name, label_space)
            self._found[key] = pool.nearest(self._vectors[corpus.path], owners, count)
        return self._found[key]

    def _make(self, name: str, label_space: LabelSpace) -> Pool:
        encode = self._sources.encode_texts
        if name == SHIPPED_POOL:
            return pool_of_demonstrations(self._sources.shipped, label_space, encode)
        dialogues = [d for corpus in self._corpora for d in in_label_space(corpus, label_space)]
        return pool_of_corpora(dialogues, label_space, encode, self._seed)


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
) -> list[LabelledExample]:
    """One epoch of a stage: every corpus in its own label space, a share in the unified one too.

    A share of the utterances has demonstrations, each from one of the stage's pools, chosen at
    random.
    """
    random = Random(seed)
    asked = stage.demonstrations
    examples: list[LabelledExample] = []
    for corpus in corpora:
        spaces = {corpus.label_space.name: 1.0}
        if stage.unified and corpus.label_space.name != UNIFIED:
            spaces[UNIFIED] = stage.unified
        for name, share in spaces.items():
            space = sources.label_spaces[name]
            found = [
                pools.nearest(corpus, pool, space, asked.count)
                for pool in asked.pools
                if asked.count and asked.share
            ]
            position = 0
            for dialogue in in_label_space(corpus, space):
                shown: dict[int, Sequence[Demonstration]] = {}
                for index in range(len(dialogue.utterances)):
                    if found and random.random() < asked.share:
                        shown[index] = random.choice(found)[position]
                    position += 1
                if random.random() < share:
                    examples.extend(main_task(dialogue, space, settings, shown))
    return examples
