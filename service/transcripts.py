"""Transcripts of WhisperX and Whisper: segments of speech, each with its speaker.

Such a file holds one JSON object, `{"segments": [{"speaker": "SPEAKER_00", "text": "..."}]}`; times
and whatever else stands there are not read.
"""

from typing import Any

from service.conversation.words import fault_of_name, fault_of_text

UNKNOWN_SPEAKER = "UNKNOWN"
"""Says a segment for which no speaker was made out."""


def is_transcript(value: dict[str, Any]) -> bool:
    """Whether an object is a transcript, and not a dialogue."""
    return isinstance(value.get("segments"), list) and not value.keys() & {"id", "utterances"}


def dialogue_of_transcript(transcript: dict[str, Any], name: str) -> dict[str, Any]:
    """The dialogue that was transcribed, as `service.dialogue_format` has it.

    A segment without words is left out.

    Args:
        name: that the dialogue gets as its id.

    Raises:
        ValueError: a segment is none, or what it holds can be no text or no speaker; the message
            names the field.
    """
    utterances = []
    for index, segment in enumerate(transcript["segments"]):
        where = f"segments[{index}]"
        if not isinstance(segment, dict):
            raise ValueError(f"{where} must be an object")
        text, speaker = segment.get("text"), segment.get("speaker")
        if not isinstance(text, str):
            raise ValueError(f"{where}.text {'is missing' if text is None else 'must be a string'}")
        if not text.strip():
            continue
        if speaker is None:
            speaker = UNKNOWN_SPEAKER
        elif not isinstance(speaker, str):
            raise ValueError(f"{where}.speaker must be a string")
        for field, fault in (("text", fault_of_text(text)), ("speaker", fault_of_name(speaker))):
            if fault is not None:
                raise ValueError(f"{where}.{field} {fault}")
        utterances.append({"speaker": speaker, "text": text.strip()})
    return {"id": name, "utterances": utterances}
