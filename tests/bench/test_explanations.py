"""Which lines are explained, and how what is measured of them becomes figures."""

from dataclasses import replace
from pathlib import Path

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import load_label_spaces
from tests.bench.explanations import LINES, Trial, draw, figures_of

SPACES = load_label_spaces(Path(__file__).parents[2] / "data" / "label_spaces")
TRIAL = Trial(
    words=6,
    prompts=10,
    named=0.3,
    other=0.1,
    turn_s=0.02,
    explanation_s=0.05,
    turn_tokens=100,
    explanation_tokens=300,
)


def test_lines_have_four_words_and_all_that_was_said_before_them() -> None:
    """As many of each corpus, none twice, and the same with the same seed."""
    texts = ("Two words.", "Here are four words.", "These are five words, too.")
    dialogues = [
        Dialogue(f"d{n}", tuple(Utterance("Ann", f"{text} {n}") for text in texts))
        for n in range(200)
    ]
    corpora = {"meld": dialogues, "emorynlp": dialogues}

    drawn = draw(corpora, SPACES, 0)

    assert len(drawn) == LINES
    assert sum(each.label_space.name == "meld" for each in drawn) == LINES // 2
    assert all(len(each.lines[-1].text.split()) >= 4 for each in drawn)
    assert {len(each.lines) for each in drawn} == {2, 3}
    assert len({(each.label_space.name, each.lines) for each in drawn}) == LINES
    assert drawn == draw(corpora, SPACES, 0) != draw(corpora, SPACES, 1)


def test_a_tie_is_not_a_line_where_the_named_words_count_for_more() -> None:
    """And a turn from memory says nothing of the cost."""
    tied = replace(TRIAL, other=0.3)
    remembered = replace(TRIAL, turn_s=0.001, turn_tokens=0)

    share, cost, named, other = figures_of([TRIAL, TRIAL, remembered, tied])

    assert (share.value, share.asked, share.met) == (75, 4, False)
    assert (cost.value, cost.asked, cost.met) == (2.5, 3, True)
    assert round(named.value, 6) == 30
    assert round(other.value, 6) == 15
