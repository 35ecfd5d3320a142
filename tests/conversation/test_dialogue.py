"""Speakers as numbers, and the history window."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.dialogue import (
    HistoryWindow,
    Line,
    SpeakerIndexes,
    Utterance,
    lines_of,
)

WINDOWS = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(
    lambda pair: HistoryWindow(pair[0], pair[0] + pair[1])
)
TARGETS = st.integers(0, 500)


def numbers(speakers: list[str], *, keep_integers: bool = False) -> list[int]:
    indexes = SpeakerIndexes(keep_integers=keep_integers)
    return [indexes.of(speaker) for speaker in speakers]


def test_speakers_are_numbered_by_first_appearance() -> None:
    """A name is taken as it is: case and spaces tell speakers apart, and so does being a number."""
    assert numbers(["Ann", "Bo", "Ann", "ann", "Ann ", "7", "Bo", ""]) == [0, 1, 0, 2, 3, 4, 1, 5]


def test_published_speaker_indexes_are_kept() -> None:
    """Rows of InstructERC's data carry 0 to 18 already, in any order."""
    assert numbers([str(n) for n in range(18, -1, -1)], keep_integers=True) == [*range(18, -1, -1)]


@pytest.mark.parametrize(
    "name", ["19", "007", "00", "-1", "1.0", " 1", "1 ", "1\n", "٣", "¹", "Ann"]
)
def test_other_speakers_are_names(name: str) -> None:
    """Beside speaker 0 they get the lowest free number."""
    assert numbers(["0", name, "0", name], keep_integers=True) == [0, 1, 0, 1]


def test_names_among_indexes_get_the_lowest_number_not_in_use() -> None:
    """An index stays as it stands; a name fills the gap that is there when it first speaks."""
    speakers = ["1", "Ann", "3", "Bo", "19", "Ann", "3"]

    assert numbers(speakers, keep_integers=True) == [1, 0, 3, 2, 4, 0, 3]


def test_lines_carry_numbers_and_the_text_as_written() -> None:
    utterances = [Utterance("Ann", " Hi. "), Utterance("Bo", ""), Utterance("Ann", "Well?")]

    assert lines_of(utterances) == [Line(0, " Hi. "), Line(1, ""), Line(0, "Well?")]


def test_lines_carry_what_the_scene_looks_like_where_that_is_known() -> None:
    """A template may show it."""
    utterances = [
        Utterance("Ann", "Look.", description="She points at\n a kite."),
        Utterance("Bo", ""),
    ]

    assert lines_of(utterances) == [Line(0, "Look.", "She points at\n a kite."), Line(1, "")]


@given(WINDOWS, TARGETS)
def test_window_never_moves_back(window: HistoryWindow, target: int) -> None:
    """What has left the prompt stays out, so a cached prefix is not wasted."""
    assert 0 <= window.start(target) <= window.start(target + 1) <= target + 1


@given(WINDOWS, TARGETS)
def test_history_is_never_longer_than_highest(window: HistoryWindow, target: int) -> None:
    assert target - window.start(target) <= window.highest


@given(WINDOWS, TARGETS)
def test_history_is_never_shorter_than_lowest_once_grown(
    window: HistoryWindow, target: int
) -> None:
    """Before that it is all there is."""
    history = target - window.start(target)

    assert history >= window.lowest or history == target


@given(WINDOWS, TARGETS)
def test_window_moves_only_when_it_must(window: HistoryWindow, target: int) -> None:
    """At a full history, and then to the lowest: every other turn finds its prefix cached."""
    start, following = window.start(target), window.start(target + 1)

    if following != start:
        assert target - start == window.highest
        assert target + 1 - following == window.lowest


@given(st.integers(0, 30), TARGETS)
def test_window_of_one_size_slides(size: int, target: int) -> None:
    """As published: the last `size` utterances before the target."""
    assert HistoryWindow(size, size).start(target) == max(0, target - size)


def test_default_window_moves_at_turn_21() -> None:
    """Twenty lines of history, then twelve, then twenty again nine turns later."""
    window = HistoryWindow(12, 20)

    assert [window.start(t) for t in (0, 20, 21, 29, 30, 38, 39)] == [0, 0, 9, 9, 18, 18, 27]


@pytest.mark.parametrize(("lowest", "highest"), [(-1, 3), (4, 3), (-2, -1)])
def test_impossible_window_is_refused(lowest: int, highest: int) -> None:
    with pytest.raises(ValueError, match=f"got {lowest} and {highest}"):
        HistoryWindow(lowest, highest)
