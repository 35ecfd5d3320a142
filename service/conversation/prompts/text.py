"""How external text is put into a prompt that has lines."""

# A demonstration is there for its likeness, not for its length.
_DEMONSTRATION_CHARACTERS = 160


def one_line(text: str) -> str:
    """The text with runs of white space folded: a line break must not look like a new line."""
    return " ".join(text.split())


def beginning(demonstration: str) -> str:
    """As much of a demonstration's text as a prompt shows, on one line."""
    return one_line(demonstration)[:_DEMONSTRATION_CHARACTERS]
