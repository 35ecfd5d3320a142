"""How what was asked before and after corrections becomes figures."""

from service.conversation.dialogue import Utterance
from tests.bench.correction_figures import Figure
from tests.bench.correction_lines import Asked
from tests.bench.correction_rows import Probe, figure_of
from tests.bench.tenants import Answer, each_of

LINES = [Asked("meld", (Utterance("Ann", text),)) for text in ("One.", "Two.", "Three.", "Four.")]


def answers(*labels: str) -> list[Answer]:
    return [Answer(label, "", {label: 0.6, "disgust": 0.1, "fear": 0.3}) for label in labels]


def test_a_bound_line_is_answered_as_corrected() -> None:
    """Whatever it was before, which is told too."""
    probe = Probe("1", "same", LINES, ["joy", "anger", "joy", "sadness"], 98)

    figure = figure_of(
        probe,
        answers("joy", "joy", "neutral", "neutral"),
        answers("joy", "anger", "joy", "neutral"),
    )

    assert figure == Figure(row="1", name="same", asked=4, before=25, value=75, wanted=98)


def test_a_changed_line_is_one_with_another_label_than_before() -> None:
    """Less is better; the note says how many changed to the label of the correction."""
    probe = Probe("4", "unrelated", LINES, ["joy"] * 4, 1, changes=True)

    figure = figure_of(
        probe, answers("joy", "fear", "anger", "anger"), answers("joy", "joy", "fear", "anger")
    )

    assert (figure.value, figure.at_least, figure.met) == (50, False, False)
    assert figure.note == "1 of 2 to the label of a correction"


def test_the_second_label_is_the_next_in_probability() -> None:
    """That is what a short line is corrected to where nobody knows better."""
    (answer,) = answers("joy")

    assert answer.second == "fear"


async def test_answers_come_in_the_order_asked() -> None:
    """However many are under way at once."""

    async def doubled(number: int) -> int:
        return 2 * number

    assert await each_of(range(20), doubled, callers=3) == [2 * n for n in range(20)]
