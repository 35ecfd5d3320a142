"""Light paraphrases by rule."""

import pytest

from training.mixture.paraphrases import (
    KINDS,
    done,
    paraphrases,
    repunctuated,
    undone,
    with_filler,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("I'm sure you don't know.", "I am sure you do not know."),
        ("We won't, we can't!", "We will not, we cannot!"),
        ("That's it, let's go.", "That is it, let us go."),
        ("They've left and she'll follow.", "They have left and she will follow."),
        ("I'M LATE", "I AM LATE"),
    ],
)
def test_contractions_are_written_out(line: str, expected: str) -> None:
    """Case stays at a line's start."""
    assert undone(line).casefold() == expected.casefold()


@pytest.mark.parametrize("line", ["Peter's car is here.", "He'd gone.", "Is this the boss's?"])
def test_what_has_two_readings_is_left_alone(line: str) -> None:
    """A genitive is no "is", and 'd may be "had" or "would"."""
    assert undone(line) == line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("You do not know.", "You don't know."),
        ("I am sure they are here.", "I'm sure they're here."),
        ("You cannot say that.", "You can't say that."),
    ],
)
def test_words_are_contracted_as_people_do(line: str, expected: str) -> None:
    """The other way round."""
    assert done(line) == expected


def test_a_verb_that_ends_the_line_is_not_contracted() -> None:
    """Nobody says "yes, I'm."."""
    assert done("Yes, I am.") == "Yes, I am."


def test_punctuation_becomes_other_punctuation() -> None:
    """A question stays one; commas go, and the end is another in turn."""
    assert repunctuated("Well, who knows?") == "Well who knows??"
    assert repunctuated("No, stop it!", 0) == "No stop it."
    assert repunctuated("No, stop it.", 0) == "No stop it!"
    assert repunctuated("No, stop it.", 1) == "No stop it..."


def test_a_filler_takes_the_capital_of_a_common_word_only() -> None:
    """A name and "I" keep theirs."""
    assert with_filler("That was close.") == "Well, that was close."
    assert with_filler("Monica was here.", 1) == "Oh, Monica was here."
    assert with_filler("I know.", 1) == "Oh, I know."


def test_each_kind_changes_a_line_that_it_fits() -> None:
    """Each once, in the order of the kinds."""
    variants = list(paraphrases("Oh, I'm so glad that you came to see us!"))

    assert [each.kind for each in variants] == list(KINDS)
    assert len({each.text for each in variants}) == len(KINDS)


def test_a_kind_that_changes_nothing_is_left_out() -> None:
    """There is no contraction to do or undo."""
    kinds = {each.kind for each in paraphrases("Stop the car right now please.")}

    assert kinds == set(KINDS) - {"contractions"}
