"""What speech recognizers answer is read as the dialogue that they heard."""

from typing import Any

import pytest

from service.transcripts.segments import Segment, TranscriptError
from service.transcripts.speech import assemblyai, contact_lens, deepgram, whisperx
from tests.transcripts.reading import refusal, spoken, utterances


def test_whisperx_tells_speakers_and_times() -> None:
    assert utterances("whisperx/diarized.json") == (
        spoken("SPEAKER_00", "Is the ferry late?", 0.498, 1.92),
        spoken("SPEAKER_01", "No, it's here already!", 2.104, 4.01),
        spoken("SPEAKER_00", "Then let's run.", 4.2, 5.0),
    )


def test_whisperx_segment_without_words_is_nothing_that_was_said() -> None:
    """One without a speaker is somebody's; a time that is not a number is unknown."""
    assert utterances("whisperx/unassigned.json") == (
        spoken("SPEAKER_00", "Is the ferry late?", 0.5, 1.9),
        spoken("unknown", "Hm.", 2.0, 2.4),
        spoken("SPEAKER_01", "It's here!", 2.5, 4.1),
        spoken("SPEAKER_01", "Hurrah!"),
    )


def test_whisper_knows_no_speakers() -> None:
    assert utterances("whisperx/whisper.json") == (
        spoken("unknown", "The lamp is broken.", 0.0, 2.32),
        spoken("unknown", "I can mend it.", 2.32, 4.0),
    )


def test_assemblyai_counts_milliseconds() -> None:
    assert utterances("assemblyai/speaker-labels.json") == (
        spoken("A", "Thanks for calling, how can I help?", 0.25, 2.15),
        spoken("B", "My parcel never came and I am furious.", 2.6, 5.125),
    )


def test_assemblyai_speakers_of_channels_are_numbers() -> None:
    assert utterances("assemblyai/multichannel.json") == (
        spoken("1", "Hello?", 0.1, 0.9),
        spoken("2", "Yes, hello!", 0.95, 1.8),
    )


def test_assemblyai_without_speakers_needs_an_option_of_the_request() -> None:
    assert refusal("assemblyai/no-speaker-labels.json") == (
        '1: utterances is null; request the transcript with "speaker_labels": true'
    )


def test_assemblyai_failure_is_told_with_its_reason() -> None:
    assert refusal("assemblyai/failed.json") == (
        "1: the transcription failed: Download error, unable to download "
        "https://example.org/none.mp3"
    )


HEARD = (
    spoken("Speaker 0", "Hello, what can I do for you?", 0.48, 3.18),
    spoken("Speaker 1", "Cancel my plan, please.", 4.16, 5.66),
    spoken("Speaker 0", "Oh, I am sorry to hear that.", 6.4, 9.1),
)


@pytest.mark.parametrize("name", ["utterances", "words"])
def test_deepgram_utterances_are_those_of_the_response_or_of_its_words(name: str) -> None:
    """Words carry the speaker if speakers were asked for, whether utterances were or not."""
    assert utterances(f"deepgram/{name}.json") == HEARD


def test_deepgram_paragraphs_have_their_own_times() -> None:
    assert utterances("deepgram/paragraphs.json") == (
        spoken("Speaker 0", "Hello. What can I do for you?", 0.48, 2.48),
        spoken("Speaker 1", "Cancel my plan, please.", 4.16, 6.16),
        spoken("Speaker 0", "Oh, I am sorry to hear that.", 6.4, 8.4),
    )


def test_deepgram_channels_are_speakers_where_there_are_several() -> None:
    assert utterances("deepgram/two-channels.json") == (
        spoken("Channel 0", "Hello, what can I do for you?", 0.48, 3.18),
        spoken("Channel 1", "Cancel my plan, please.", 4.16, 5.66),
    )
    assert utterances("deepgram/two-channels-utterances.json") == (
        spoken("Channel 0, speaker 0", "Hello?", 0.5, 0.8),
        spoken("Channel 1, speaker 0", "Good morning.", 1.5, 2.2),
    )


def test_deepgram_without_words_needs_options_of_the_request() -> None:
    assert refusal("deepgram/no-words.json") == (
        "1: results.channels[0].alternatives[0].words is missing; "
        "request the transcript with utterances=true and diarize=true"
    )


AGENT, CUSTOMER = "f36a545d-67b2-4fd4-89fb-896136b609a7", "e9b36a6d-12aa-4c21-9745-1881648ecfc8"


def test_contact_lens_call_has_roles() -> None:
    assert utterances("contact-lens/call.json") == (
        spoken(AGENT, "Garden Supplies, Mia speaking.", 0.0, 2.3, "agent"),
        spoken(CUSTOMER, "The roses arrived dead, again!", 2.75, 6.0, "customer"),
        spoken(AGENT, "That must be so frustrating.", 6.2, 9.11, "agent"),
    )


def test_contact_lens_chat_begins_when_the_first_joins() -> None:
    """Speakers have names there, and dates become seconds; an event is nothing that was said."""
    assert utterances("contact-lens/chat.json") == (
        spoken("SYSTEM_MESSAGE", "You are number 1 in the queue.", 1.5, role="system"),
        spoken("Jo", "Hi, my roses arrived dead :(", 5.0, role="customer"),
        spoken("Mia", "Oh no, I will send new ones.", 10.265, role="agent"),
    )


def test_contact_lens_segments_of_a_running_call_are_read_too() -> None:
    assert utterances("contact-lens/real-time.json") == (
        spoken("AGENT", "How may I help you?", 0.757, 1.275, "agent"),
        spoken("CUSTOMER", "I want my money back.", 1.867, 3.307, "customer"),
    )


OF_WHISPERX: list[tuple[object, str]] = [
    ("Hello.", "segments[1] must be an object"),
    ({"speaker": "A"}, "segments[1].text is missing"),
    ({"speaker": "A", "text": 3}, "segments[1].text must be a string"),
    ({"speaker": 0, "text": "x"}, "segments[1].speaker must be a string"),
    ({"speaker": " ", "text": "x"}, "segments[1].speaker must not be blank"),
    ({"speaker": "A", "text": "\x00"}, "segments[1].text must not contain control characters"),
    ({"text": "x", "start": "0:01"}, "segments[1].start must be a number"),
    ({"text": "x", "start": True}, "segments[1].start must be a number"),
    (
        {"text": "x", "start": -1},
        "segments[1].start must be a number of seconds from 0 to 10,000,000,000",
    ),
    (
        {"text": "x", "start": 10**400},
        "segments[1].start must be a number of seconds from 0 to 10,000,000,000",
    ),
    ({"text": "x", "start": 2, "end": 1}, "segments[1].end must not be before start"),
]


@pytest.mark.parametrize(("segment", "problem"), OF_WHISPERX)
def test_invalid_segment_is_named_by_its_path(segment: object, problem: str) -> None:
    document = {"segments": [{"speaker": "A", "text": "Hi."}, segment]}

    with pytest.raises(TranscriptError) as refused:
        list(whisperx(document))
    assert str(refused.value) == problem


@pytest.mark.parametrize(
    ("read", "document", "problem"),
    [
        (assemblyai, {"utterances": {}}, "utterances must be a list"),
        (assemblyai, {"utterances": [{"text": "x", "end": "9"}]}, "utterances[0].end must be a "),
        (
            assemblyai,
            {"status": "error", "error": {"code": 1}},
            "error must be a string",
        ),
        (
            assemblyai,
            {"utterances": [{"text": "x", "end": 10**400}]},
            "utterances[0].end must be a number of seconds from 0",
        ),
        (deepgram, {"results": []}, "results must be an object"),
        (
            deepgram,
            {"results": {"utterances": [{"transcript": "x", "channel": [0, 1]}]}},
            "results.utterances[0].channel must be an integer",
        ),
        (
            deepgram,
            {"results": {"utterances": [{"transcript": "x", "speaker": "A"}]}},
            "results.utterances[0].speaker must be an integer",
        ),
        (
            deepgram,
            {"results": {"channels": [{"alternatives": [{"words": [{"start": 1}]}]}]}},
            "results.channels[0].alternatives[0].words[0].word is missing",
        ),
        (contact_lens, {"Transcript": [{"Content": "x"}]}, "Transcript[0].ParticipantId is missi"),
        (
            contact_lens,
            {"Transcript": [{"Content": "x", "ParticipantId": "A", "AbsoluteTime": "noon"}]},
            "Transcript[0].AbsoluteTime must be a date such as 2026-01-02T10:00:00.000Z",
        ),
        (contact_lens, {"Segments": [{"Transcript": 1}]}, "Segments[0].Transcript must be an obj"),
    ],
)
def test_each_reader_names_the_path(read: Any, document: dict[str, Any], problem: str) -> None:
    with pytest.raises(TranscriptError) as refused:
        list(read(document))
    assert str(refused.value).startswith(problem)


def test_transcript_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.transcripts.documents.MOST_SEGMENTS", 2)
    row = {"text": "Hi."}

    assert list(whisperx({"segments": [row, row]})) == [Segment(None, "Hi.")] * 2
    with pytest.raises(TranscriptError, match="segments has more than 2 items; split the transc"):
        list(whisperx({"segments": [row, row, row]}))
