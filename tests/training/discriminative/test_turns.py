"""What the discriminative models are given of a dialogue."""

from collections.abc import Mapping

import numpy as np

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from tests.training.plain_words import encode
from training.discriminative.turns import UNLABELLED, Turns, pieces, turns_of


def test_every_utterance_is_a_turn(spaces: Mapping[str, LabelSpace]) -> None:
    """With and without a label; who somebody is, is not told: speakers are numbers."""
    lines = [("Bo", "grr", "anger"), ("Ann", "well", None), ("Bo", "alas", "Sadness")]
    dialogues = [
        Dialogue("a", tuple(Utterance(*one) for one in lines)),
        Dialogue("b", (Utterance("Ann", "hurrah", "joy"),)),
    ]
    encoded = encode(["grr", "well", "alas", "hurrah"])

    first, second = turns_of(dialogues, spaces["meld"], encoded)

    names = spaces["meld"].names
    assert first.speakers.tolist() == [0, 1, 0]
    assert first.gold.tolist() == [names.index("anger"), UNLABELLED, names.index("sadness")]
    assert second.speakers.tolist() == [0]
    assert (np.concatenate([first.vectors, second.vectors]) == encoded).all()


def test_pieces_have_each_label_once() -> None:
    """Behind what was said right before; speakers stay apart."""
    whole = Turns(
        np.arange(7, dtype=np.float32)[:, np.newaxis],
        np.asarray([0, 1, 2, 3, 2, 3, 4]),
        np.asarray([0, 1, 2, 3, 4, 5, 6]),
    )

    parts = pieces(whole, most=3, before=2)

    assert [part.vectors[:, 0].tolist() for part in parts] == [
        *([0, 1, 2], [1, 2, 3, 4, 5], [4, 5, 6])
    ]
    none = UNLABELLED
    assert [part.gold.tolist() for part in parts] == [
        *([0, 1, 2], [none, none, 3, 4, 5], [none, none, 6])
    ]
    assert [part.speakers.tolist() for part in parts] == [[0, 1, 2], [0, 1, 2, 1, 2], [0, 1, 2]]
