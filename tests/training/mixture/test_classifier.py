"""What the classifier sees of an utterance."""

from collections.abc import Mapping

from service.conversation.labels import LabelSpace
from tests.training.plain_words import dialogue, encode
from training.mixture.classifier import encode_split


def test_context_is_of_the_same_dialogue(spaces: Mapping[str, LabelSpace]) -> None:
    """A first utterance has none, and unlabelled ones are part of it."""
    spoken = [dialogue("a", ("grr", "anger")), dialogue("b", ("alas", None), ("well", "neutral"))]

    split = encode_split(spoken, spaces["meld"], encode)

    width = split.vectors.shape[1]
    assert split.places == (("a", 0, "a-grr"), ("b", 1, "b-well"))
    assert not split.contexts[0, width:].any()
    assert split.contexts[1, width : 2 * width].tolist() == encode(["alas"])[0].tolist()
    assert not split.contexts[1, 2 * width :].any()
