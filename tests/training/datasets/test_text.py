"""Text of corpora as people would have written it."""

import pytest

from training.datasets.text import close_up


@pytest.mark.parametrize(
    ("tokenised", "closed_up"),
    [
        ("Is it late , Bo ?", "Is it late, Bo?"),
        ("Well . . . yes ! !", "Well... yes!!"),
        ("I ’ m here , aren ’ t I ?", "I’m here, aren’t I?"),
        ("That ' s Ann 's hat , they 'Re sure", "That's Ann's hat, they'Re sure"),
        ("At six o ’ clock .", "At six o’clock."),
    ],
)
def test_spaces_that_a_tokeniser_put_in_are_closed_up(tokenised: str, closed_up: str) -> None:
    """Before punctuation, and around the apostrophe of a contraction."""
    assert close_up(tokenised) == closed_up


@pytest.mark.parametrize(
    "text",
    [
        "It's late, isn't it?",
        "the boys ’ room",
        "He said ' no ' twice",
        "It was .5 percent :)",
        "A line\nand the next",
        "",
    ],
)
def test_other_spaces_stay(text: str) -> None:
    """Those of ordinary text, and those that nobody can tell from an opening quotation mark's."""
    assert close_up(text) == text
