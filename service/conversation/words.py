"""Which text is valid as an utterance and which as a name: one rule for every input."""

import re

# In the syntax that Python's and ECMA's regular expressions share. Tab, newline and carriage return
# are text. C1 is allowed: it is common in text that was decoded with the wrong encoding.
_UNREADABLE = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_BREAKING = r"\n\r\x85\u2028\u2029"
# White space as Python's `str.strip` defines it.
_BLANK = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

_CONTROL = re.compile(f"[{_UNREADABLE}]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # not a character: no encoding represents it
_LINE_BREAK = re.compile(f"[{_BREAKING}]")

TEXT_PATTERN = f"^[^{_UNREADABLE}]*[^{_UNREADABLE}{_BLANK}][^{_UNREADABLE}]*$"
"""What `fault_of_text` accepts, in JSON Schema's syntax (ECMA-262)."""
NAME_PATTERN = f"^[^{_UNREADABLE}{_BREAKING}]*[^{_UNREADABLE}{_BLANK}][^{_UNREADABLE}{_BREAKING}]*$"
"""What `fault_of_name` accepts."""


def fault_of_text(value: str) -> str | None:
    """Why a text is not valid as an utterance; None if it is."""
    if not value.strip():
        return "must not be blank"
    if _CONTROL.search(value):
        return "must not contain control characters"
    if _SURROGATE.search(value):
        return "must not contain lone surrogates"
    return None


def fault_of_name(value: str) -> str | None:
    """Why a text is not valid as a name, such as a speaker's; None if it is."""
    if (fault := fault_of_text(value)) is not None:
        return fault
    return "must be on one line" if _LINE_BREAK.search(value) else None
