"""What the classifier sees of an utterance."""

from collections.abc import Mapping, Sequence

import numpy as np

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.arrays import Vectors
from training.mixture.classifier import encode_split

WORDS = ("hurrah", "alas", "grr", "well")


def encode(texts: Sequence[str]) -> Vectors:
    """A direction for each word; unlike texts of one word are near each other."""
    vectors = np.zeros((len(texts), len(WORDS) + 1), np.float32)
    for row, text in enumerate(texts):
        vectors[row, WORDS.index(text.split()[0])] = 1.0
        vectors[row, -1] = 0.1 * len(text.split())
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def dialogue(name: str, *said: tuple[str, str | None]) -> Dialogue:
    return Dialogue(
        name,
        tuple(Utterance("Ann", text, label, id=f"{name}-{text}") for text, label in said),
    )


def test_context_is_of_the_same_dialogue(spaces: Mapping[str, LabelSpace]) -> None:
    """A first utterance has none, and unlabelled ones are part of it."""
    spoken = [dialogue("a", ("grr", "anger")), dialogue("b", ("alas", None), ("well", "neutral"))]

    split = encode_split(spoken, spaces["meld"], encode)

    width = split.vectors.shape[1]
    assert split.places == (("a", 0, "a-grr"), ("b", 1, "b-well"))
    assert not split.contexts[0, width:].any()
    assert split.contexts[1, width : 2 * width].tolist() == encode(["alas"])[0].tolist()
    assert not split.contexts[1, 2 * width :].any()
