"""What speech recognizers answer in JSON: WhisperX, AssemblyAI, Deepgram, Amazon Contact Lens.

The shapes are those of whisperx's `WriteJSON`, AssemblyAI's `GET /v2/transcript/{id}`, Deepgram's
`POST /v1/listen` of recorded audio, and Contact Lens' output files of calls and chats and its
`ListRealtimeContactAnalysisSegments`. Fields other than those named here are ignored.
"""

from collections.abc import Iterator
from itertools import groupby

from service.transcripts.documents import (
    Object,
    integer_at,
    items,
    optional_text_at,
    seconds_at,
    text_at,
)
from service.transcripts.segments import Segment, TranscriptError, checked, seconds_between

_REASON_CHARACTERS = 500  # of a failed transcription


def whisperx(value: Object) -> Iterator[Segment]:
    """`{"segments": [{"start": 0.5, "end": 1.9, "text": "...", "speaker": "SPEAKER_00"}]}`.

    Whisper's own documents, without speakers, have the same shape.

    Raises:
        TranscriptError: a field is invalid; the message names it.
    """
    for where, row in items(value, "segments"):
        text = text_at(row, "text", where)
        if text.strip():
            start, end = (seconds_at(row, name, where) for name in ("start", "end"))
            speaker = optional_text_at(row, "speaker", where)
            yield checked(Segment(speaker, text, start, end), where)


def assemblyai(value: Object) -> Iterator[Segment]:
    """`{"utterances": [{"speaker": "A", "start": 250, "end": 1900, "text": "..."}]}`, milliseconds.

    Raises:
        TranscriptError: the transcription failed, was made without speakers, or a field is invalid.
    """
    if value.get("status") == "error":
        reason = optional_text_at(value, "error", "") or "no reason is given"
        raise TranscriptError(f"the transcription failed: {reason[:_REASON_CHARACTERS]}")
    if value.get("utterances") is None:
        raise TranscriptError(
            'utterances is null; request the transcript with "speaker_labels": true'
        )
    for where, row in items(value, "utterances"):
        text = text_at(row, "text", where)
        if text.strip():
            start, end = (seconds_at(row, name, where, 1000) for name in ("start", "end"))
            speaker = optional_text_at(row, "speaker", where)
            yield checked(Segment(speaker, text, start, end), where)


def deepgram(value: Object) -> Iterator[Segment]:
    """`{"results": {"channels": [...], "utterances": [...]}}`.

    Read are the utterances; without them, of each channel's first alternative, the paragraphs;
    without them, its words, grouped by speaker. A speaker is called `Speaker 0`, and where there
    are several channels `Channel 0` or `Channel 0, speaker 0`.

    Raises:
        TranscriptError: there is none of these, or a field is invalid.
    """
    results = value.get("results")
    if not isinstance(results, dict):
        raise TranscriptError("results must be an object")
    channels = items(results, "channels", "results.") if results.get("channels") else []
    if results.get("utterances") is not None:
        rows = items(results, "utterances", "results.")
        numbers = [integer_at(row, "channel", where) for where, row in rows]
        several = len(set(numbers)) > 1
        for (where, row), number in zip(rows, numbers, strict=True):
            text = text_at(row, "transcript", where)
            yield from _of_deepgram(row, text, where, number if several else None)
        return
    segments = [
        segment
        for number, (where, channel) in enumerate(channels)
        for segment in _of_channel(channel, where, number if len(channels) > 1 else None)
    ]
    yield from sorted(segments, key=lambda segment: segment.start or 0.0)


def _of_channel(channel: Object, where: str, number: int | None) -> Iterator[Segment]:
    alternatives = items(channel, "alternatives", where)
    if not alternatives:
        return
    where, best = alternatives[0]
    paragraphs = best.get("paragraphs")
    if isinstance(paragraphs, dict):
        for place, row in items(paragraphs, "paragraphs", f"{where}paragraphs."):
            sentences = items(row, "sentences", place)
            text = " ".join(text_at(sentence, "text", at) for at, sentence in sentences)
            yield from _of_deepgram(row, text, place, number)
        return
    if best.get("words") is None and best.get("transcript"):
        raise TranscriptError(
            f"{where}words is missing; request the transcript with utterances=true and diarize=true"
        )
    words = items(best, "words", where) if best.get("words") else []
    for _, group in groupby(words, lambda word: word[1].get("speaker")):
        (place, first), *more = group
        text = " ".join(
            optional_text_at(word, "punctuated_word", at) or text_at(word, "word", at)
            for at, word in ((place, first), *more)
        )
        last = more[-1][1] if more else first
        yield from _of_deepgram({**first, "end": last.get("end")}, text, place, number)


def _of_deepgram(row: Object, text: str, where: str, channel: int | None) -> Iterator[Segment]:
    if not text.strip():
        return
    start, end = (seconds_at(row, name, where) for name in ("start", "end"))
    number = integer_at(row, "speaker", where)
    speaker = None if number is None else f"speaker {number}"
    if channel is not None:
        speaker = f"channel {channel}" + (f", {speaker}" if speaker else "")
    yield checked(Segment(speaker and speaker.capitalize(), text, start, end), where)


def contact_lens(value: Object) -> Iterator[Segment]:
    """`{"Participants": [...], "Transcript": [{"ParticipantId": "...", "Content": "..."}]}`.

    Calls have offsets in milliseconds; chats have dates, which become seconds from the first item
    on, and events, which are ignored. Segments read while a call goes on (`{"Segments":
    [{"Transcript": {...}}]}`) are read too. Roles are in lower case.

    Raises:
        TranscriptError: a field is invalid; the message names it.
    """
    roles = {}
    if value.get("Participants") is not None:
        for where, participant in items(value, "Participants"):
            name = text_at(participant, "ParticipantId", where)
            roles[name] = optional_text_at(participant, "ParticipantRole", where)
    first: str | None = None
    for where, row in _contact_lens_rows(value):
        date = optional_text_at(row, "AbsoluteTime", where)
        first = first or date
        if row.get("Type", "MESSAGE") != "MESSAGE":
            continue
        text = text_at(row, "Content", where)
        if not text.strip():
            continue
        participant_id = text_at(row, "ParticipantId", where)
        role = optional_text_at(row, "ParticipantRole", where) or roles.get(participant_id)
        start = seconds_at(row, "BeginOffsetMillis", where, 1000)
        end = seconds_at(row, "EndOffsetMillis", where, 1000)
        if date is not None and first is not None:
            start = _since(first, date, where)
        speaker = optional_text_at(row, "DisplayName", where) or participant_id
        yield checked(Segment(speaker, text, start, end, role and role.lower()), where)


def _contact_lens_rows(value: Object) -> Iterator[tuple[str, Object]]:
    if value.get("Transcript") is not None:
        yield from items(value, "Transcript")
        return
    for where, segment in items(value, "Segments"):
        row = segment.get("Transcript")
        if row is None:
            continue  # categories and summaries are segments too
        if not isinstance(row, dict):
            raise TranscriptError(f"{where}Transcript must be an object")
        yield f"{where}Transcript.", row


def _since(first: str, date: str, where: str) -> float:
    try:
        return seconds_between(first, date)
    except ValueError:
        raise TranscriptError(
            f"{where}AbsoluteTime must be a date such as 2026-01-02T10:00:00.000Z"
        ) from None
