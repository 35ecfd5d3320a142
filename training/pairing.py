"""Which demonstrations a training prompt shows: the nearest utterances that it may know.

Pairing is by any label, as in serving. The paper pairs by the same label, which puts the answer
into every training prompt and teaches the model to copy it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from service.conversation.dialogue import Demonstration, Dialogue
from service.conversation.labels import LabelSpace

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
EncodeTexts = Callable[[Sequence[str]], Vectors]
"""Texts to unit vectors, shape (texts, dimensions)."""

_QUERIES_AT_ONCE = 1024


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
        self, queries: Vectors, dialogue_ids: Sequence[str], count: int
    ) -> list[tuple[Demonstration, ...]]:
        """The `count` most similar demonstrations for each query, best first, none of its dialogue.

        Args:
            queries: shape (queries, dimensions), unit length.
        """
        own = defaultdict(list)
        for position, dialogue in enumerate(self.dialogues):
            own[dialogue].append(position)
        excluded = [own.get(dialogue, []) for dialogue in dialogue_ids]
        return [
            tuple(self.demonstrations[place] for place in places)
            for places in nearest_places(queries, self.vectors, count, excluded)
        ]


def nearest_places(
    queries: Vectors,
    vectors: Vectors,
    count: int,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Iterator[Ints]:
    """For each query where its `count` most similar vectors stand, best first.

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
    dialogues: Iterable[Dialogue], label_space: LabelSpace, encode: EncodeTexts, seed: int
) -> Pool:
    """As many utterances of each label as the rarest has, drawn at random.

    A corpus is mostly neutral; without balance so would be every prompt's examples.
    """
    by_label: dict[str, list[tuple[Demonstration, str]]] = defaultdict(list)
    for dialogue in dialogues:
        for index, utterance in enumerate(dialogue.utterances):
            if utterance.label is not None:
                shown = Demonstration(
                    f"{dialogue.id}/{index}", label_space.name, utterance.label, utterance.text
                )
                by_label[utterance.label].append((shown, dialogue.id))
    rarest = min(map(len, by_label.values()), default=0)
    random = Random(seed)
    drawn = [pair for label in sorted(by_label) for pair in random.sample(by_label[label], rarest)]
    demonstrations = tuple(demonstration for demonstration, _ in drawn)
    return Pool(
        demonstrations,
        encode([demonstration.text for demonstration in demonstrations]),
        tuple(dialogue for _, dialogue in drawn),
    )


def pool_of_demonstrations(
    demonstrations: Iterable[Demonstration], label_space: LabelSpace, encode: EncodeTexts
) -> Pool:
    """The demonstrations of one label space from a demonstrations file."""
    chosen = tuple(d for d in demonstrations if d.label_space == label_space.name)
    return Pool(chosen, encode([d.text for d in chosen]), ("",) * len(chosen))
