"""Pairs utterances with demonstrations: the nearest ones that a prompt may show.

Pairing is by any label unless a recipe says otherwise, as in serving. The paper pairs by the same
label (InstructERC, arXiv 2309.11911, section 3.1): the answer then stands in every training prompt
and a model learns to copy it, which is wrong for half the utterances it will be asked.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from service.conversation.dialogue import Demonstration, Dialogue
from service.conversation.labels import LabelSpace
from training.arrays import Ints, Vectors
from training.datasets.reading import Corpus
from training.datasets.text import Words, words

EncodeTexts = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors, shape (texts, dimensions)."""

_QUERIES_AT_ONCE = 1024
# Shorter lines are in many dialogues ("Yeah.").
_ITSELF = 4


@dataclass(frozen=True, slots=True)
class Query:
    """An utterance that demonstrations are for.

    Attributes:
        dialogue: its dialogue's id.
        label: the only label its demonstrations may have; None: any.
        elsewhere: ids of other corpora's dialogues that it stands in too.
    """

    text: str
    dialogue: str
    label: str | None = None
    elsewhere: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """Demonstrations of one label space, with their vectors and the dialogues they are from.

    Attributes:
        vectors: shape (demonstrations, dimensions), unit length.
        dialogues: a dialogue id for each demonstration, "" where it is from none.
    """

    demonstrations: tuple[Demonstration, ...]
    vectors: Vectors
    dialogues: tuple[str, ...]

    def nearest(
        self, vectors: Vectors, queries: Sequence[Query], count: int, *, same_text: bool = True
    ) -> list[tuple[Demonstration, ...]]:
        """The `count` most similar demonstrations for each query, best first.

        None is of a dialogue that the query stands in, so that an utterance is never its own
        demonstration.

        Args:
            vectors: shape (queries, dimensions), unit length.
            same_text: whether one may say the same words as the query, case and punctuation aside.
        """
        of_dialogue = _places(self.dialogues)
        of_words = _places(words(d.text) for d in self.demonstrations)
        labels = np.asarray([d.label for d in self.demonstrations], dtype=object)
        other_label = {
            label: np.flatnonzero(labels != label).tolist()
            for label in {query.label for query in queries} - {None}
        }
        excluded = [
            [
                *(p for d in (query.dialogue, *query.elsewhere) for p in of_dialogue.get(d, ())),
                *(() if same_text else of_words.get(words(query.text), ())),
                *other_label.get(query.label, ()),
            ]
            for query in queries
        ]
        return [
            tuple(self.demonstrations[place] for place in places)
            for places in nearest_places(vectors, self.vectors, count, excluded)
        ]


def nearest_places(
    queries: Vectors,
    vectors: Vectors,
    count: int,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Iterator[Ints]:
    """For each query, the places of its `count` most similar vectors, best first.

    Args:
        queries, vectors: shape (n, dimensions), unit length.
        excluded: for each query, places that are not for it; fewer than `count` may be left.
    """
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        similarity = queries[start : start + _QUERIES_AT_ONCE] @ vectors.T
        for number, row in enumerate(similarity, start=start):
            if excluded is not None:
                row[excluded[number]] = -np.inf
            best = np.argsort(-row, kind="stable")[:count]
            yield best[np.isfinite(row[best])]


def pool_of_corpora(
    dialogues: Iterable[Dialogue],
    label_space: LabelSpace,
    encode: EncodeTexts,
    seed: int,
    *,
    balanced: bool = True,
) -> Pool:
    """What `drawn` draws, with vectors."""
    pairs = drawn(dialogues, label_space, seed, balanced=balanced)
    demonstrations = tuple(demonstration for demonstration, _ in pairs)
    return Pool(
        demonstrations,
        encode([demonstration.text for demonstration in demonstrations]),
        tuple(dialogue for _, dialogue in pairs),
    )


def drawn(
    dialogues: Iterable[Dialogue], label_space: LabelSpace, seed: int, *, balanced: bool = True
) -> list[tuple[Demonstration, str]]:
    """The labelled utterances of dialogues, with their dialogues' ids.

    One that says nothing shows nothing.

    Args:
        balanced: only as many of each label as the rarest has, drawn at random. A corpus is mostly
            neutral; without balance so would be every prompt's examples.
    """
    by_label: dict[str, list[tuple[Demonstration, str]]] = defaultdict(list)
    for dialogue in dialogues:
        for index, utterance in enumerate(dialogue.utterances):
            if utterance.label is not None and utterance.text.strip():
                shown = Demonstration(
                    f"{dialogue.id}/{index}", label_space.name, utterance.label, utterance.text
                )
                by_label[utterance.label].append((shown, dialogue.id))
    random = Random(seed)
    rarest = min(map(len, by_label.values()), default=0)
    return [
        pair
        for label in sorted(by_label)
        for pair in (random.sample(by_label[label], rarest) if balanced else by_label[label])
    ]


def pool_of_demonstrations(
    demonstrations: Iterable[Demonstration], label_space: LabelSpace, encode: EncodeTexts
) -> Pool:
    """The demonstrations of one label space from a demonstrations file."""
    chosen = tuple(d for d in demonstrations if d.label_space == label_space.name)
    return Pool(chosen, encode([d.text for d in chosen]), ("",) * len(chosen))


def dialogues_of_lines(
    corpora: Iterable[Corpus],
) -> Mapping[Words, Collection[tuple[Path, str]]]:
    """The dialogues that hold each line of four words or more, by corpus path and dialogue id.

    What another corpus has in the same words is the same utterance, for MELD and EmoryNLP are cut
    from one television series: one in nine of MELD's training utterances is such a line of
    EmoryNLP's training split, one in ninety such a line of another dialogue of MELD.
    """
    spoken_in: dict[Words, set[tuple[Path, str]]] = defaultdict(set)
    for corpus in corpora:
        for dialogue in corpus.dialogues:
            for utterance in dialogue.utterances:
                line = words(utterance.text)
                if len(line) >= _ITSELF:
                    spoken_in[line].add((corpus.path, dialogue.id))
    return spoken_in


def _places(keys: Iterable[Hashable]) -> dict[Hashable, list[int]]:
    """The places of each key."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    return places
