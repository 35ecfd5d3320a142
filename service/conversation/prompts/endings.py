"""Truncation of a text that is too long for a prompt.

It begins where a token does, so that few tokens change, and within no character that is written
with several code points: an accent keeps its letter, and an emoji its parts.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

from service.conversation.prompts.text import one_line

Starts = Callable[[str], Sequence[int]]
"""Where in a text each of its tokens begins, in characters; ascending."""

# More than nearly every text has for each token. What is before them is not tokenized, so that the
# end of a very long text costs no more than that of a long one.
CHARACTERS_PER_TOKEN = 8

_JOINER = "\u200d"
_PARTS_OF_EMOJI = (*range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080))  # skin tones, tags
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)  # two make a flag
_LONGEST_CHARACTER = 32  # in code points; what goes on for longer is no character


def word_starts(text: str) -> Sequence[int]:
    """For a tokenizer that does not tell its starts: a word begins with a token."""
    return [word.start() for word in re.finditer(r"\S+", text)]


def ending(text: str, tokens: int, starts: Starts) -> str:
    """The end of a text, on one line: at most so many tokens, and eight characters for each."""
    if tokens <= 0:
        return ""
    whole = one_line(text)
    start = max(0, len(whole) - CHARACTERS_PER_TOKEN * tokens)
    found = starts(whole[start:])
    if len(found) > tokens:
        # A character may be several tokens; they stay together.
        start += next((s for s in found[-tokens:] if s > found[-tokens - 1]), len(whole) - start)
    return whole[_between_characters(whole, start) :].lstrip()


def has_more(text: str, tokens: int, starts: Starts) -> bool:
    """Whether a long text surely has more tokens than so many, by its end alone."""
    most = CHARACTERS_PER_TOKEN * tokens
    return len(text) > most and len(starts(one_line(text)[-most:])) > tokens


def longest_ending(text: str, length: Callable[[str], int], limit: int, starts: Starts) -> str:
    """The longest end of a text with which a prompt fits; "" where none does.

    Args:
        length: of the prompt with such an end, in tokens.
    """
    least = length("")
    tokens = limit - least
    while tokens > 0:
        end = ending(text, tokens, starts)
        found = length(end)
        if found <= limit:
            return end
        # A prompt may show a text twice, and a word that is cut may have more tokens.
        tokens -= max(1, (found - limit) * tokens // (found - least))
    return ""


def _between_characters(text: str, place: int) -> int:
    """The first place from `place` on that a character begins at."""
    if 0 < place < len(text) and _flag_letters_before(text, place) % 2:
        place += ord(text[place]) in _FLAG_LETTERS
    for later in range(place, min(place + _LONGEST_CHARACTER, len(text))):
        if later == 0 or not (_continues(text[later]) or text[later - 1] == _JOINER):
            return later
    return place


def _flag_letters_before(text: str, place: int) -> int:
    before = text[:place]
    return len(before) - len(before.rstrip("".join(map(chr, _FLAG_LETTERS))))


def _continues(character: str) -> bool:
    return (
        unicodedata.category(character).startswith("M")  # accents, variation selectors
        or character == _JOINER
        or ord(character) in _PARTS_OF_EMOJI
    )
