"""Training knows nothing of what is held out, in whichever corpus it is."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus
from training.leakage import without_held_out

FERRY = ("We caught the very last ferry!", "Oh.", "Where did I put my hat, then?", "I sat on it.")
SNOW = ("It has snowed all night long.", "Has it?", "Look at the garden, all of it!")
PARTING = ("Bye.", "Bye!", "See you.")
GREETING = ("Hey.", "Hey!")


def corpus(name: str, **said: tuple[str, ...]) -> Corpus:
    dialogues = tuple(
        Dialogue(key, tuple(Utterance("Ann", text, "joy") for text in texts))
        for key, texts in said.items()
    )
    return Corpus(Path(name), LabelSpace("some", "Some", ()), dialogues)


def left(train: Corpus, held_out: Corpus) -> list[str]:
    (kept,) = without_held_out([train], [held_out])
    return [dialogue.id for dialogue in kept.dialogues]


TRAIN = corpus("train", ferry=FERRY, snow=SNOW, parting=PARTING, greeting=GREETING)


@pytest.mark.parametrize(
    "held_out",
    [
        pytest.param(FERRY, id="the same"),
        pytest.param(("Hm.", FERRY[2], FERRY[0]), id="cut and ordered otherwise"),
        pytest.param(tuple(text.upper().replace(",", " ") for text in FERRY), id="written so"),
    ],
)
def test_dialogue_that_is_held_out_in_part_does_not_train(held_out: tuple[str, ...]) -> None:
    """Under another id, and in another corpus: its lines are known by their words."""
    assert left(TRAIN, corpus("held", elsewhere=held_out)) == ["snow", "parting", "greeting"]


def test_one_line_in_common_is_chance() -> None:
    held_out = corpus("held", other=(FERRY[0], "Not in this weather."))

    assert left(TRAIN, held_out) == ["ferry", "snow", "parting", "greeting"]


def test_short_lines_count_as_a_whole_dialogue_only() -> None:
    """ "Bye." is said in many; three such lines in a row are the same dialogue."""
    assert left(TRAIN, corpus("held", other=PARTING)) == ["ferry", "snow", "greeting"]
    assert left(TRAIN, corpus("held", other=(*PARTING, "Soon."))) == [d.id for d in TRAIN.dialogues]
    assert left(TRAIN, corpus("held", other=GREETING)) == [d.id for d in TRAIN.dialogues]


def test_what_is_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        without_held_out([TRAIN], [corpus("held", other=FERRY)])

    assert caplog.messages == [
        "train: 1 of 4 dialogues are left out, for a held-out split has them, too"
    ]


def test_corpus_that_is_held_out_is_refused() -> None:
    """As a file, or by what it says."""
    copied = replace(TRAIN, path=Path("copy"))

    with pytest.raises(DatasetError, match="train: is a training corpus, and held out"):
        without_held_out([TRAIN], [TRAIN])
    with pytest.raises(DatasetError, match="copy: every dialogue of it is held out"):
        without_held_out(
            [replace(copied, dialogues=TRAIN.dialogues[:2])], [corpus("held", a=FERRY, b=SNOW)]
        )
