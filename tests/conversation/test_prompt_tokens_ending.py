"""The end of a text that is too long for a prompt."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.conversation.prompts.tokens import (
    CHARACTERS_PER_TOKEN,
    ending,
    has_more,
    longest_ending,
    word_starts,
)
from service.decoding.tokenizer import Tokenizer


def characters(text: str) -> Sequence[int]:
    """The starts of a tokenizer whose tokens are characters."""
    return range(len(text))


def bytes_of(text: str) -> Sequence[int]:
    """The starts of a tokenizer whose tokens are bytes, several of which make a character."""
    return [n for n, c in enumerate(text) for _ in c.encode(errors="surrogatepass")]


def test_the_last_tokens_stay() -> None:
    """On one line, as prompts show texts."""
    assert ending("one two  three\nfour ", 2, word_starts) == "three four"
    assert ending("one two", 2, word_starts) == "one two"
    assert ending("one two", 0, word_starts) == ""


def test_the_end_of_a_very_long_text_is_all_that_is_looked_at() -> None:
    """Eight characters for each token: a hundred thousand cost no more than a few hundred."""
    looked_at: list[int] = []

    def noting(text: str) -> Sequence[int]:
        looked_at.append(len(text))
        return word_starts(text)

    assert ending("so it goes " * 10_000, 3, noting) == "so it goes"
    assert ending("x" * 100_000, 3, noting) == "x" * 3 * CHARACTERS_PER_TOKEN
    assert max(looked_at) == 3 * CHARACTERS_PER_TOKEN


def test_tokens_of_one_character_stay_together() -> None:
    """Three bytes of four are no character."""
    assert [ending("a😀b", most, bytes_of) for most in range(1, 7)] == [
        *("b", "b", "b", "b", "😀b", "a😀b")
    ]


@pytest.mark.parametrize(
    "character",
    [
        "e\u0301",
        "\U0001f44d\U0001f3fd",
        "\u2764\ufe0f",
        "\U0001f469\u200d\U0001f680",
        "\U0001f1e9\U0001f1ea",
    ],
    ids=["accent", "skin tone", "variation", "joined", "flag"],
)
def test_no_character_is_cut_in_two(character: str) -> None:
    """It is shown whole, or not at all."""
    text = "ab" + 3 * character + "yz"

    endings = {ending(text, most, characters) for most in range(1, len(text))}

    assert endings == {"b" + 3 * character + "yz", *(n * character + "yz" for n in range(4)), "z"}


def test_what_goes_on_and_on_is_no_character() -> None:
    """A letter under a thousand accents does not take all the rest with it."""
    assert ending("a" + 1000 * "\u0301", 100, characters) == 100 * "\u0301"


def test_a_text_shown_twice_is_cut_to_half() -> None:
    """As published prompts show it."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 100)))

    assert longest_ending(text, lambda end: 10 + 2 * len(end), 50, characters) == text[-20:]
    assert longest_ending(text, lambda end: 10 + 2 * len(end), 10, characters) == ""


@given(text=st.text(max_size=300), most=st.integers(1, 40))
@settings(max_examples=200)
def test_an_ending_is_the_texts_and_about_so_long(text: str, most: int, minilm: Tokenizer) -> None:
    """It is short by its own tokens' starts; what a cut word becomes is for its user to count."""
    whole = " ".join(text.split())

    end = ending(text, most, minilm.starts)

    assert whole.endswith(end)
    assert ending(text, most, minilm.starts) == end
    if len(minilm.encode(whole)) <= most and len(whole) <= most * CHARACTERS_PER_TOKEN:
        assert end == whole


def test_words_stand_for_tokens_that_are_not_told() -> None:
    """A word with more tokens makes the end shorter; without white space it is counted off."""
    words = "a" + " bcd" * 100

    assert longest_ending(words, len, 42, word_starts) == "bcd" + " bcd" * 9
    assert longest_ending("x" * 1000, len, 42, word_starts) == "x" * 40


def test_only_a_long_text_is_said_to_have_more() -> None:
    """By its end; a word of any length is a single token."""
    assert has_more("a " * 100, 10, word_starts)
    assert not has_more("a" * 100, 10, word_starts)
    assert not has_more("a " * 10, 10, word_starts)
