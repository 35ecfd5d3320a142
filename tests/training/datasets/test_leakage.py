"""Training knows nothing of what is held out, in whichever corpus it is."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.leakage import check_apart, lines_among, without_held_out
from training.datasets.reading import Corpus

FERRY = ("We caught the very last ferry!", "Oh.", "Where did I put my hat, then?", "I sat on it.")
SNOW = ("It has snowed all night long.", "Has it?", "Look at the garden, all of it!")
PARTING = ("Bye.", "Bye!", "See you.")
GREETING = ("Hey.", "Hey!")
CALL = ("Is anybody there?",)


def corpus(name: str, /, **message: tuple[str, ...]) -> Corpus:
    dialogues = tuple(
        Dialogue(key, tuple(Utterance("Ann", text, "joy") for text in texts))
        for key, texts in message.items()
    )
    return Corpus(Path(name), LabelSpace("some", "Some", ()), dialogues)


def labelled_as(name: str, original: Corpus) -> Corpus:
    return replace(original, label_space=LabelSpace(name, name, ()))


def left(train: Corpus, held_out: Corpus) -> list[str]:
    (kept,) = without_held_out([train], [held_out])
    return [dialogue.id for dialogue in kept.dialogues]


TALKS = {"ferry": FERRY, "snow": SNOW, "parting": PARTING, "greeting": GREETING, "call": CALL}
TRAIN = corpus("train", **TALKS)


def all_but(*names: str) -> list[str]:
    return [name for name in TALKS if name not in names]


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
    assert left(TRAIN, corpus("held", elsewhere=held_out)) == all_but("ferry")


def test_one_line_in_common_is_chance() -> None:
    held_out = corpus("held", other=(FERRY[0], "Not in this weather."))

    assert left(TRAIN, held_out) == all_but()


def test_short_lines_count_as_a_whole_dialogue_only() -> None:
    """ "Bye." is said in many; the same lines from first to last are the same dialogue."""
    assert left(TRAIN, corpus("held", other=PARTING)) == all_but("parting")
    assert left(TRAIN, corpus("held", other=GREETING)) == all_but("greeting")
    assert left(TRAIN, corpus("held", other=(*PARTING, "Soon."))) == all_but()


def test_dialogue_of_one_line_is_no_copy() -> None:
    """As one line in common is chance."""
    assert left(TRAIN, corpus("held", other=CALL)) == all_but()


def test_iemocaps_dialogues_may_share_their_scripts() -> None:
    """Each pair of its actors plays the same ones: by convention some train, and some test.

    The very same words are still the same dialogue; so are lines of another corpus.
    """
    train = labelled_as("iemocap", TRAIN)
    again, copied = corpus("held", other=("Hm.", FERRY[2], FERRY[0])), corpus("held", other=FERRY)

    assert left(train, labelled_as("iemocap", again)) == all_but()
    assert left(train, labelled_as("iemocap", copied)) == all_but("ferry")
    assert left(train, labelled_as("meld", again)) == all_but("ferry")


def test_what_is_left_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        without_held_out([TRAIN], [corpus("held", other=FERRY)])

    assert caplog.messages == [
        "train: 1 of 5 dialogues are excluded because they are also in a held-out split"
    ]


def test_corpus_that_is_held_out_is_refused() -> None:
    """As a file, or by what it says."""
    copied = replace(TRAIN, path=Path("copy"))

    with pytest.raises(DatasetError, match="train: is both a training corpus and held out"):
        without_held_out([TRAIN], [TRAIN])
    with pytest.raises(DatasetError, match="copy: all of its dialogues are held out"):
        without_held_out(
            [replace(copied, dialogues=TRAIN.dialogues[:2])], [corpus("held", a=FERRY, b=SNOW)]
        )


def test_what_was_left_out_once_is_apart() -> None:
    """Whatever is held out: the check knows what the filter knows."""
    held_out = [corpus("held", a=FERRY, b=PARTING), corpus("other", c=SNOW[::-1], d=GREETING)]

    check_apart(without_held_out([TRAIN], held_out), held_out)


def test_held_out_dialogues_are_named() -> None:
    """With the file that they were found in; of many some."""
    some = corpus("held", a=FERRY, b=GREETING)
    many = corpus("many", **{f"d{n}": FERRY for n in range(8)})

    with pytest.raises(DatasetError, match=r"train: held-out .* in prompts: 'ferry', 'greeting'$"):
        check_apart([TRAIN], [some])
    with pytest.raises(DatasetError, match=r"many: held-out .* 'd4' and 3 more$"):
        check_apart([many], [some])


def test_file_that_is_held_out_is_not_apart() -> None:
    """Not even where its dialogues are of one line."""
    lone = corpus("lone", call=CALL)

    with pytest.raises(DatasetError, match="lone: held-out dialogues would be in prompts: 'call'"):
        check_apart([lone], [lone])


def test_lines_that_would_be_shown_with_their_labels_are_counted() -> None:
    """Longer ones, however they are written."""
    texts = ["WE CAUGHT the very last ferry", "Oh.", "It has snowed all night, I think."]

    assert lines_among(texts, [TRAIN]) == 1
    assert lines_among(texts, []) == 0
