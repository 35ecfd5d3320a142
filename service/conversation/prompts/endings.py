"""Truncation of a text that is too long for a prompt, to its end.

The end begins at a token, so that few tokens change, and never inside a character of several code
points: an accent keeps its letter, and an emoji its parts.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

from service.conversation.prompts.text import one_line

Starts = Callable[[str], Sequence[int]]
"""Maps a text to the offsets, in characters, at which its tokens begin; ascending."""

# Nearly every text has fewer characters a token. Only so many are tokenized, so that the end of a
# very long text costs no more than that of a long one.
CHARACTERS_PER_TOKEN = 8

_JOINER = "\u200d"
_PARTS_OF_EMOJI = (*range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080))  # skin tones, tags
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)  # two make a flag
_LONGEST_CHARACTER = 32  # in code points; a longer sequence is not one character


def word_starts(text: str) -> Sequence[int]:
    """Starts for a tokenizer without offsets: each word begins a token."""
    return [word.start() for word in re.finditer(r"\S+", text)]


def ending(text: str, tokens: int, starts: Starts) -> str:
    """The end of a text, on one line: at most `tokens` tokens, and eight characters for each."""
    if tokens <= 0:
        return ""
    line = one_line(text)
    start = max(0, len(line) - CHARACTERS_PER_TOKEN * tokens)
    offsets = starts(line[start:])
    if len(offsets) > tokens:
        # A character may be several tokens; they stay together.
        start += next((s for s in offsets[-tokens:] if s > offsets[-tokens - 1]), len(line) - start)
    return line[_between_characters(line, start) :].lstrip()


def has_more(text: str, tokens: int, starts: Starts) -> bool:
    """Whether a text certainly has more than `tokens` tokens, judging by its end alone."""
    most = CHARACTERS_PER_TOKEN * tokens
    return len(text) > most and len(starts(one_line(text)[-most:])) > tokens


def longest_ending(text: str, length: Callable[[str], int], limit: int, starts: Starts) -> str:
    """The longest end of a text with which a prompt fits; "" if none does.

    Args:
        length: maps an end to the length of the prompt with it, in tokens.
    """
    least = length("")
    tokens = limit - least
    while tokens > 0:
        end = ending(text, tokens, starts)
        total = length(end)
        if total <= limit:
            return end
        # A prompt may show a text twice, and a cut word may have more tokens.
        tokens -= max(1, (total - limit) * tokens // (total - least))
    return ""


def _between_characters(text: str, place: int) -> int:
    """The first place from `place` on at which a character begins."""
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
