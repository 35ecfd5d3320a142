"""Transcripts of WhisperX and Whisper: segments of speech, each with its speaker.

Such a file holds one JSON object, `{"segments": [{"speaker": "SPEAKER_00", "text": "..."}]}`; times
and other fields are ignored.
"""

from typing import Any

from service.conversation.dialogue import fault_of_name, fault_of_text

UNKNOWN_SPEAKER = "UNKNOWN"
"""The speaker of a segment without one."""


def is_transcript(value: dict[str, Any]) -> bool:
    """Whether an object is a transcript rather than a dialogue."""
    return isinstance(value.get("segments"), list) and not value.keys() & {"id", "utterances"}


def dialogue_of_transcript(transcript: dict[str, Any], name: str) -> dict[str, Any]:
    """Convert a transcript to a dialogue in the format of `service.dialogue_format`.

    Segments without words are discarded.

    Args:
        name: the dialogue's id.

    Raises:
        ValueError: a segment is not an object, or its text or speaker is invalid; the message names
            the field.
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
