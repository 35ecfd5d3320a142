"""Subtitles are read as what their voices say."""

import time

import pytest

from service.conversation.dialogue import Dialogue
from service.dialogue_files import DialogueFormatError
from service.transcripts import subtitles
from service.transcripts.segments import Segment, TranscriptError
from service.transcripts.subtitles import srt, webvtt
from tests.transcripts.reading import parts, spoken, utterances


def test_teams_tells_voices() -> None:
    """An utterance may have several lines; the cue's identifier is not kept."""
    assert utterances("webvtt/teams.vtt") == (
        spoken("Ida Moor", "Good morning, everybody.", 3.62, 5.34),
        spoken("Reed, Jo (Guest)", "Morning! Sorry, I'm late, the ferry didn't come.", 6.1, 9.02),
    )


def test_zoom_tells_names_before_a_colon() -> None:
    assert utterances("webvtt/zoom.vtt") == (
        spoken("Ida Moor", "Did you see the numbers?", 3.17, 5.42),
        spoken("Jo Reed", "I did: they are awful.", 5.9, 8.11),
        spoken("unknown", "Really awful.", 8.11, 9.0),
    )


@pytest.mark.parametrize("suffix", ["vtt", "srt"])
def test_whisperx_tells_speakers_in_brackets(suffix: str) -> None:
    assert utterances(f"whisperx/diarized.{suffix}")[:2] == (
        spoken("SPEAKER_00", "Is the ferry late?", 0.498, 1.92),
        spoken("SPEAKER_01", "No, it's here already!", 2.104, 4.01),
    )


def test_notes_styles_regions_and_markup_are_skipped() -> None:
    assert utterances("webvtt/captions.vtt") == (
        spoken("unknown", "Look at the boats!", 1.0, 2.5),
        spoken("unknown", "I <3 them & you.", 3600.0, 3602.0),
    )


def test_voices_of_one_cue_share_its_times() -> None:
    assert utterances("webvtt/voices.vtt") == (
        spoken("Ida", "Stop!", 0.0, 2.0),
        spoken("Jo", "Why", 0.0, 2.0),
        spoken("Ida", "Because \u200eof the dog.", 0.0, 2.0),
        spoken("unknown", "(barking)", 2.5, 3.0),
    )


def test_invalid_cue_is_named_by_its_line_and_the_others_are_read() -> None:
    *errors, dialogue = parts("webvtt/broken-cue.vtt")

    example = "such as 00:00:01.000 --> 00:00:02.500"
    assert errors == [
        f"6: a cue needs a line with times, {example}",
        f"10: '00:05.000 --> 5 s' are not times {example}",
        "13: end must not be before start",
    ]
    assert dialogue == Dialogue(
        "broken-cue", (spoken("Ida", "One.", 1.0, 2.0), spoken("Ida", "Five.", 9.0, 10.0))
    )


def test_file_without_its_first_line_is_refused() -> None:
    with pytest.raises(DialogueFormatError, match=r'vtt:1: a WebVTT file begins with "WEBVTT"'):
        parts("webvtt/no-header.vtt")


def test_srt_tells_names_before_a_colon() -> None:
    """A cue without text is nothing that was said."""
    assert utterances("srt/named.srt") == (
        spoken("Ida", "Where is the key?", 1.0, 2.5),
        spoken("Jo", "I thought you had it! Look in the bag.", 3.0, 4.25),
    )


def test_srt_of_windows_is_read() -> None:
    assert utterances("srt/windows.srt") == (
        spoken("Zoë", "Ça va?", 1.0, 2.0),
        spoken("Bo", "Oui!", 2.5, 3.0),
    )


def test_two_may_speak_in_one_cue() -> None:
    """A phrase before a colon is no name if it is long."""
    assert utterances("srt/two-in-a-cue.srt") == (
        spoken("Ida", "Where is it?", 1.0, 4.0),
        spoken("Jo", "Under the red chair.", 1.0, 4.0),
        spoken("unknown", "One thing before we all leave: shut the door.", 5.0, 6.0),
    )


def test_srt_cue_without_times_is_named() -> None:
    error, dialogue = parts("srt/broken.srt")

    assert error == "5: a cue needs a line with times, such as 00:00:01.000 --> 00:00:02.500"
    assert dialogue == Dialogue(
        "broken", (spoken("Ida", "One.", 1.0, 2.0), spoken("Ida", "Three.", 5.0, 6.0))
    )


@pytest.mark.parametrize(
    ("text", "speaker", "rest"),
    [
        ("Dr. Ida O'Hara-Moor: Yes.", "Dr. Ida O'Hara-Moor", "Yes."),
        ("好: 是", "好", "是"),
        ("[Speaker 1]: Yes.", "Speaker 1", "Yes."),
        ("- Ida: Yes.", "Ida", "Yes."),
        ("It is 10:30 now", None, "It is 10:30 now"),
        ("10: that many", None, "10: that many"),
        ("What? No: yes.", None, "What? No: yes."),
        ("See https://example.org", None, "See https://example.org"),
        ("[music]", None, "[music]"),
        ("a <3 b > c", None, "a <3 b > c"),
    ],
)
def test_what_is_a_name(text: str, speaker: str | None, rest: str) -> None:
    assert [*srt(["00:00:01,0 --> 00:00:02,05\n", text])] == [Segment(speaker, rest, 1.0, 2.05)]


def test_cue_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of it is kept beyond the bound."""
    monkeypatch.setattr(subtitles, "_MOST_LINES", 3)
    monkeypatch.setattr(subtitles, "_MOST_CHARACTERS", 60)
    times = "00:00:01.000 --> 00:00:02.000"
    cues = ["WEBVTT", "", times, "a", "b", "", times, "a", "b", "c", "", times, 60 * "x"]

    first, *errors = webvtt(cues)

    assert first == Segment(None, "a b", 1.0, 2.0)
    assert [(error.line, str(error)) for error in errors if isinstance(error, TranscriptError)] == [
        (7, "a cue has at most 3 lines and 60 characters"),
        (12, "a cue has at most 3 lines and 60 characters"),
    ]


def test_reference_to_no_character_is_a_replacement_character() -> None:
    """However many digits it has, in a name, too."""
    cue = [
        "00:00:01,000 --> 00:00:02,000\n",
        f"[Ann&#{30 * '9'};]: &#{5000 * '9'}; &#233;",
    ]

    assert [*srt(cue)] == [Segment("Ann\ufffd", "\ufffd é", 1.0, 2.0)]


@pytest.mark.parametrize(
    "piece", ["<v ", "<v.", "<v" + 50 * " ", "<c ", "{\\", "- a", "[", "a:", "&"]
)
def test_hostile_cue_is_read_in_a_moment(piece: str) -> None:
    """No pattern looks at a long text more than a few times."""
    text = (piece * 90_000)[:90_000]
    begun = time.process_time()

    (cue,) = srt(["00:00:01,000 --> 00:00:02,000\n", text])

    assert isinstance(cue, Segment)
    assert time.process_time() - begun < 2


def test_transcript_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.dialogue_files.MOST_SEGMENTS", 1)

    with pytest.raises(DialogueFormatError, match=r"srt:1: more than 1 cues; split the file"):
        parts("srt/named.srt")
