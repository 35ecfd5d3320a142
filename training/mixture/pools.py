"""The pools of demonstrations that training prompts draw from.

Vectors and neighbours are computed once, for all epochs.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from random import Random

from service.conversation.dialogue import Demonstration, Dialogue
from service.conversation.labels import LabelSpace
from training.arrays import Vectors
from training.datasets.leakage import check_apart
from training.datasets.reading import Corpus
from training.datasets.relabelling import in_label_space
from training.datasets.text import words
from training.mixture.pairing import (
    Pool,
    Query,
    dialogues_of_lines,
    pool_of_corpora,
    pool_of_demonstrations,
)
from training.mixture.sources import Sources
from training.recipe import Demonstrations

Shown = tuple[Demonstration, ...]
ByUtterance = Mapping[tuple[str, int], Shown]
"""Demonstrations for the utterances of a corpus, by dialogue id and the index in the dialogue."""

SHIPPED_POOL = "shipped"


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
        self._nearest: dict[tuple[Path, str, str, Demonstrations], ByUtterance] = {}

    def with_seed(self, seed: int) -> "Pools":
        """The same corpora's, drawn anew; what is encoded already is not encoded again."""
        pools = copy(self)
        pools._seed, pools._made, pools._nearest = seed, {}, {}
        return pools

    def get(self, name: str, label_space: LabelSpace, balanced: bool = True) -> Pool:
        """The pool called `name` ("train" or "shipped") in a label space."""
        key = (name, label_space.name, balanced)
        if key not in self._made:
            self._made[key] = self._make(name, label_space, balanced)
        return self._made[key]

    def nearest(
        self, corpus: Corpus, name: str, label_space: LabelSpace, asked: Demonstrations
    ) -> ByUtterance:
        """The nearest of a pool for each utterance of a corpus; searched once, asked each epoch."""
        key = (corpus.path, name, label_space.name, asked)
        if key not in self._nearest:
            queries = self._queries(corpus, label_space, asked)
            demonstrations = self.get(name, label_space, asked.balanced).nearest(
                self.vectors(corpus),
                [*queries.values()],
                asked.count,
                same_text=asked.same_text,
            )
            self._nearest[key] = dict(zip(queries, demonstrations, strict=True))
        return self._nearest[key]

    def vectors(self, corpus: Corpus) -> Vectors:
        """Of every utterance of a corpus, in order; encoded once."""
        if corpus.path not in self._vectors:
            texts = [u.text for d in corpus.dialogues for u in d.utterances]
            self._vectors[corpus.path] = self._sources.encode_texts(texts)
        return self._vectors[corpus.path]

    def _queries(
        self, corpus: Corpus, label_space: LabelSpace, asked: Demonstrations
    ) -> dict[tuple[str, int], Query]:
        """A query for each utterance, by dialogue id and index, in the order of `vectors`."""
        queries = {}
        random = Random(self._seed)
        any_label = {"any_label": 1.0, "same_label": 0.0, "label_dropout": asked.dropout or 0.0}
        for dialogue in in_label_space(corpus, label_space):
            elsewhere = self._elsewhere(corpus, dialogue)
            for index, utterance in enumerate(dialogue.utterances):
                label = None if random.random() < any_label[asked.pairing] else utterance.label
                queries[dialogue.id, index] = Query(utterance.text, dialogue.id, label, elsewhere)
        return queries

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
