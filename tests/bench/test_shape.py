"""Synthetic dialogues have a corpus's shape, and no word of it."""

from pathlib import Path

from tests.bench.shape import (
    MELD_SHAPE,
    dialogues_of_shape,
    read_shape,
    shape_of,
    write_shape,
)

TEXTS = ("We caught the ferry!", "Soup.", "I lost my hat in the wind and it never came back.")


def test_the_shape_that_ships_is_of_meld() -> None:
    """The first 60 dialogues of the development split: 594 utterances of 8 words on average."""
    shape = read_shape()

    utterances = [utterance for dialogue in shape for utterance in dialogue]
    assert len(shape) == 60
    assert len(utterances) == 594
    assert sum(words for _, words in utterances) == 4800


def test_the_shape_that_ships_holds_no_text() -> None:
    """Every entry is two numbers."""
    for dialogue in read_shape(MELD_SHAPE):
        for speaker, words in dialogue:
            assert isinstance(speaker, int)
            assert isinstance(words, int)


def test_dialogues_have_the_shape_they_are_made_of() -> None:
    """As many utterances, speakers in the same order, as many words."""
    shape = read_shape()

    assert shape_of(dialogues_of_shape(shape, TEXTS, "seed")) == shape


def test_the_same_seed_gives_the_same_dialogues() -> None:
    """On any machine: the words are drawn from the seed alone."""
    shape = read_shape()

    assert dialogues_of_shape(shape, TEXTS, "a") == dialogues_of_shape(shape, TEXTS, "a")
    assert dialogues_of_shape(shape, TEXTS, "a") != dialogues_of_shape(shape, TEXTS, "b")


def test_an_utterance_begins_as_one_of_the_texts() -> None:
    """Shorter ones are cut off, longer ones go on with another text."""
    utterances = dialogues_of_shape((((0, 2), (1, 30)),), TEXTS, "seed")[0].utterances

    for utterance in utterances:
        assert any(
            utterance.text.startswith(text) or text.startswith(utterance.text) for text in TEXTS
        )
    assert len(utterances[1].text.split()) == 30


def test_a_shape_that_was_written_is_read_again(tmp_path: Path) -> None:
    """The file says where the numbers come from."""
    shape = (((0, 3), (1, 1)), ((0, 12),))

    write_shape(shape, "a corpus", tmp_path / "shape.json")

    assert read_shape(tmp_path / "shape.json") == shape
    assert "a corpus" in (tmp_path / "shape.json").read_text()
