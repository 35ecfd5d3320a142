"""Mends text that a corpus is known to have broken."""

# Windows-1252 read as Latin-1 leaves C1 control characters where punctuation was. Both encodings
# occur in one file, so each character is mapped by itself.
_C1 = {
    code: bytes([code]).decode("cp1252")
    for code in range(0x80, 0xA0)
    if code not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # not assigned in Windows-1252
}


def mend(text: str) -> str:
    """The text with C1 control characters turned into the punctuation they were."""
    return text.translate(_C1)
