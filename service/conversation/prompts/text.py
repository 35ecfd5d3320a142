"""External text in a line-based prompt."""

# A demonstration helps by its similarity, not by its length.
_DEMONSTRATION_CHARACTERS = 160


def one_line(text: str) -> str:
    """Fold each run of white space into a space: a line break must not look like a new line."""
    return " ".join(text.split())


def beginning(demonstration: str) -> str:
    """The beginning of a demonstration's text that a prompt shows, on one line."""
    return one_line(demonstration)[:_DEMONSTRATION_CHARACTERS]
