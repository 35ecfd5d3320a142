"""Summaries of dialogues, beside figures worked out in other ways."""

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.summaries import (
    MOST_PARTS,
    Agreement,
    Part,
    Peak,
    PersonsLabel,
    Reading,
    Run,
    Tally,
    summarize,
    tally,
    wilson,
)
from service.conversation.valence import UNIT


def reading(index: int, label: str, valence: int | None = 0, **more: Any) -> Reading:
    plain = Reading(index, "Ann", None, "meld", label, 0.5, valence)
    return replace(plain, **more)


_corrections = st.none() | st.builds(
    PersonsLabel,
    label_space=st.sampled_from(["meld", "unified", "callers"]),
    label=st.sampled_from(["joy", "anger"]),
    valence=st.none() | st.integers(-UNIT, UNIT),
    agrees=st.none() | st.booleans(),
)


@st.composite
def dialogues(draw: st.DrawFn) -> list[Reading]:
    length = draw(st.integers(1, 40))
    return [
        Reading(
            index,
            draw(st.sampled_from(["Ann", "Bob", "Cy"])),
            draw(st.sampled_from([None, "agent", "customer"])),
            draw(st.sampled_from(["meld", "unified"])),
            draw(st.sampled_from(["joy", "anger", "neutral"])),
            draw(st.integers(0, 4)) / 4,
            draw(st.none() | st.integers(-UNIT, UNIT)),
            draw(_corrections),
        )
        for index in range(length)
    ]


def mean(valences: list[int]) -> float:
    return fmean(valences) / UNIT


@given(dialogues())
def test_the_valence_is_that_of_its_definition(readings: list[Reading]) -> None:
    """Mean, thirds and peaks, worked out from lists."""
    length = len(readings)
    valences = [each.final_valence for each in readings]
    known = [valence for valence in valences if valence is not None]
    third = length // 3
    first = [valence for valence in valences[:third] if valence is not None]
    last = [valence for valence in valences[length - third :] if valence is not None]

    summary = summarize(length, readings).whole.valence

    if summary is None:
        assert not known
        return
    assert summary.utterances == len(known)
    assert summary.mean == pytest.approx(mean(known))
    if first and last:
        assert summary.shift == pytest.approx(mean(last) - mean(first))
    else:
        assert summary.shift is None
    assert summary.lowest == Peak(valences.index(min(known)), min(known) / UNIT)
    assert summary.highest == Peak(valences.index(max(known)), max(known) / UNIT)


@given(dialogues())
def test_parts_divide_the_whole(readings: list[Reading]) -> None:
    """Every utterance is in its speaker's part and its role's, and in one label space of each."""
    summary = summarize(len(readings), readings)

    assert sum(part.utterances for _, part in summary.speakers) == len(readings)
    assert sum(part.utterances for _, part in summary.roles) == sum(
        each.role is not None for each in readings
    )
    for part in (summary.whole, *dict(summary.speakers).values(), *dict(summary.roles).values()):
        assert sum(space.utterances for space in part.label_spaces) == part.utterances
        for space in part.label_spaces:
            assert sum(share.count for share in space.labels) == space.utterances
            assert sum(share.share for share in space.labels) == pytest.approx(1)
            assert all(share.low <= share.share <= share.high for share in space.labels)


@given(dialogues())
def test_a_part_is_the_summary_of_its_own_utterances(readings: list[Reading]) -> None:
    """Save that its thirds are those of the dialogue."""
    summary = summarize(len(readings), readings)

    for name, part in summary.speakers:
        own = [each for each in readings if each.speaker == name]
        assert part == summarize(len(readings), own).whole


@given(st.lists(st.none() | st.integers(-UNIT, UNIT), max_size=40))
def test_a_tally_of_any_order_is_the_same(valences: list[int | None]) -> None:
    """Sums of whole numbers do not depend on it."""
    numbered = list(enumerate(valences))

    assert tally(len(valences), numbered) == tally(len(valences), reversed(numbered))


def test_a_dialogue_of_two_has_no_thirds() -> None:
    assert tally(2, [(0, 5), (1, 7)]) == Tally(2, 12)
    assert tally(2, [(0, 5), (1, 7)]).shift is None
    assert tally(3, [(0, 5), (1, 7), (2, 9)]) == Tally(3, 21, 1, 5, 1, 9)


def whole(*readings: Reading) -> Part:
    return summarize(len(readings), readings).whole


def test_the_longest_run_is_the_first_of_several() -> None:
    labels = ("joy", "anger", "anger", "joy", "joy", "anger")
    (space,) = whole(*(reading(n, label) for n, label in enumerate(labels))).label_spaces

    assert space.longest_run == Run("anger", 2, 1, 2)


def test_a_run_of_a_speaker_goes_on_across_others() -> None:
    """It is one after the other among the speaker's own utterances."""
    readings = [
        reading(0, "joy"),
        reading(1, "anger", speaker="Bob"),
        reading(2, "joy"),
        reading(3, "joy"),
    ]

    parts = dict(summarize(4, readings).speakers)

    assert parts["Ann"].label_spaces[0].longest_run == Run("joy", 3, 0, 3)
    assert whole(*readings).label_spaces[0].longest_run == Run("joy", 2, 2, 3)


def test_a_persons_label_takes_the_place_of_the_predicted_one() -> None:
    """With a probability of 1, so that its peak is there."""
    corrected = PersonsLabel("meld", "anger", -UNIT, agrees=False)
    part = whole(
        reading(0, "joy", 100), reading(1, "joy", 200, correction=corrected), reading(2, "anger", 0)
    )

    (space,) = part.label_spaces
    assert {share.label: share.count for share in space.labels} == {"joy": 1, "anger": 2}
    assert space.labels[0].peak == Peak(1, 1.0)
    assert space.agreement == Agreement(corrected=1, compared=1, agreed=0)
    assert part.valence is not None
    assert part.valence.lowest == Peak(1, -1.0)


def test_a_persons_label_of_another_label_space_counts_for_valence_and_agreement() -> None:
    """The answer's label space has no label for it, so the predicted one stays."""
    corrected = PersonsLabel("unified", "mad", -UNIT, agrees=False)
    part = whole(reading(0, "joy", 100, correction=corrected))

    (space,) = part.label_spaces
    assert [share.label for share in space.labels] == ["joy"]
    assert space.agreement == Agreement(1, 1, 0)
    assert part.valence is not None
    assert part.valence.mean == -1.0


def test_a_persons_label_without_valence_leaves_the_predictions() -> None:
    corrected = PersonsLabel("callers", "upset", None, agrees=None)
    part = whole(reading(0, "joy", UNIT // 2, correction=corrected))

    assert part.valence is not None
    assert part.valence.mean == 0.5
    assert part.label_spaces[0].agreement == Agreement(corrected=1, compared=0, agreed=0)


def test_the_intervals_are_wilsons() -> None:
    """Figures of Newcombe 1998, "Two-sided confidence intervals for the single proportion"."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_a_dialogue_of_many_speakers_describes_the_largest_parts() -> None:
    """Those who speak most, and it says how many there are."""
    count = MOST_PARTS + 5
    readings = [reading(n, "joy", speaker=f"s{n}") for n in range(count)]
    readings.append(reading(count, "joy", speaker=f"s{count - 1}"))

    summary = summarize(len(readings), readings)

    assert summary.speaker_count == count
    assert len(summary.speakers) == MOST_PARTS
    assert summary.speakers[0][0] == f"s{count - 1}"


def test_an_empty_dialogue_has_a_summary() -> None:
    """Of none of its parts is there anything to say."""
    assert summarize(0, []).whole == Part(0, None, ())
