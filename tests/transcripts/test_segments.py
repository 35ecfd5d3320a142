"""Segments become utterances: each its own, or joined as the user wants it."""

import pytest

from service.conversation.dialogue import Utterance
from service.transcripts import segments
from service.transcripts.segments import (
    Joining,
    Segment,
    TranscriptError,
    UnknownSpeaker,
    dialogue_of,
    seconds_between,
)
from tests.transcripts.reading import spoken

SEGMENTS = [
    Segment(None, "Beep.", 0.0, 0.5),
    Segment("Ida", "I see.", 1.0, 2.0, "agent"),
    Segment("Ida", "Well.", 3.0, 4.0, "agent"),
    Segment(None, "Hm.", 4.5, 5.0),
    Segment("Ida", "Bye.", 5.5, 6.0, "agent"),
    Segment("Ida", "Really.", 7.5, 8.0, "agent"),
]


def joined(joining: Joining, of: list[Segment] = SEGMENTS) -> tuple[Utterance, ...]:
    return dialogue_of(of, "d", joining).utterances


def test_by_default_each_segment_is_an_utterance() -> None:
    utterances = joined(Joining())

    assert len(utterances) == len(SEGMENTS)
    assert utterances[0] == spoken("unknown", "Beep.", 0.0, 0.5)
    assert utterances[3] == spoken("unknown", "Hm.", 4.5, 5.0)


def test_segment_without_a_speaker_may_belong_to_the_one_before() -> None:
    """The first of all has none before."""
    assert joined(Joining(UnknownSpeaker.PREVIOUS))[:3] == (
        spoken("unknown", "Beep.", 0.0, 0.5),
        spoken("Ida", "I see.", 1.0, 2.0, "agent"),
        spoken("Ida", "Well. Hm.", 3.0, 5.0, "agent"),
    )


def test_segments_of_one_speaker_may_be_joined_over_short_pauses() -> None:
    """A pause of exactly the limit is short; another speaker between them ends it."""
    assert joined(Joining(within_s=1.0)) == (
        spoken("unknown", "Beep.", 0.0, 0.5),
        spoken("Ida", "I see. Well.", 1.0, 4.0, "agent"),
        spoken("unknown", "Hm.", 4.5, 5.0),
        spoken("Ida", "Bye.", 5.5, 6.0, "agent"),
        spoken("Ida", "Really.", 7.5, 8.0, "agent"),
    )


def test_both_ways_of_joining_go_together() -> None:
    assert joined(Joining(UnknownSpeaker.PREVIOUS, 1.0))[1:] == (
        spoken("Ida", "I see. Well. Hm. Bye.", 1.0, 6.0, "agent"),
        spoken("Ida", "Really.", 7.5, 8.0, "agent"),
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Segment("Ida", "One.", 0.0, 1.0), Segment("Jo", "Two.", 1.0, 2.0)),
        (Segment("Ida", "One.", 0.0, 1.0, "a"), Segment("Ida", "Two.", 1.0, 2.0, "b")),
        (Segment("Ida", "One.", 0.0), Segment("Ida", "Two.", 1.0, 2.0)),
        (Segment("Ida", "One."), Segment("Ida", "Two.")),
    ],
)
def test_speakers_roles_and_unknown_times_are_not_joined(first: Segment, second: Segment) -> None:
    assert len(joined(Joining(within_s=60), [first, second])) == 2


def test_joined_utterance_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a text in a request; what would exceed it begins the next."""
    monkeypatch.setattr(segments, "_JOINED_CHARACTERS", 10)
    talk = [Segment("Ida", f"Word {n}", n, n + 1) for n in range(3)]

    assert [each.text for each in joined(Joining(within_s=1), talk)] == [
        "Word 0",
        "Word 1",
        "Word 2",
    ]


def test_two_segments_with_one_id_are_refused() -> None:
    with pytest.raises(TranscriptError, match="two utterances of dialogue 'd' have the id 'm1'"):
        joined(Joining(), [Segment("Ida", "One.", id="m1"), Segment("Jo", "Two.", id="m1")])


def test_dialogue_needs_a_name_on_one_line() -> None:
    with pytest.raises(TranscriptError, match="named after the file, and its name must be on one"):
        dialogue_of([], "two\nlines", Joining())


def test_dates_with_and_without_a_time_zone_have_no_difference() -> None:
    assert seconds_between("2026-01-02T10:00:00+02:00", "2026-01-02T08:00:01.5Z") == 1.5
    with pytest.raises(ValueError, match="time zone"):
        seconds_between("2026-01-02T10:00:00Z", "2026-01-02T10:00:00")
