"""Mends text that a corpus is known to have broken."""

import re

# Windows-1252 read as Latin-1 leaves C1 control characters where punctuation was. Both encodings
# occur in one file, so each character is mapped by itself.
_C1 = {
    code: bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # not assigned in Windows-1252
}

_BEFORE_MARK = re.compile(r" +(?=[,.!?;:…](?:\s|$))")
# I ’ m, don ’ t, six o ’ clock; an apostrophe before another word may as well be a quotation mark.
_APOSTROPHE = re.compile(r"(?<=\w) *(['’]) *(s|m|d|t|re|ve|ll|clock)\b", re.IGNORECASE)

Words = tuple[str, ...]
"""What is said, word by word."""


def mend(text: str) -> str:
    """The text with C1 control characters turned into the punctuation they were."""
    return text.translate(_C1)


def close_up(text: str) -> str:
    """Tokenised text with its punctuation and contractions as people write them."""
    return _APOSTROPHE.sub(r"\1\2", _BEFORE_MARK.sub("", text))


def words(text: str) -> Words:
    """What is said, without regard to case, punctuation and spacing: corpora differ in these."""
    return tuple(re.findall(r"\w+", text.casefold()))
