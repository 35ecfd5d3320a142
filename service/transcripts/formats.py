"""The formats of transcripts, and how they are told apart by their content."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from service.transcripts import messages as chat
from service.transcripts import speech, subtitles
from service.transcripts.segments import Segment
from service.transcripts.tables import has_table


class Format(StrEnum):
    """A format of dialogues."""

    JSONL = "jsonl"
    CSV = "csv"
    WEBVTT = "webvtt"
    SRT = "srt"
    WHISPERX = "whisperx"
    ASSEMBLYAI = "assemblyai"
    DEEPGRAM = "deepgram"
    CONTACT_LENS = "contact-lens"
    MESSAGES = "messages"


DOCUMENTS: Mapping[Format, Callable[[dict[str, Any]], Iterator[Segment]]] = {
    Format.WHISPERX: speech.whisperx,
    Format.ASSEMBLYAI: speech.assemblyai,
    Format.DEEPGRAM: speech.deepgram,
    Format.CONTACT_LENS: speech.contact_lens,
    Format.MESSAGES: chat.messages,
}
"""The reader of each format that is a JSON document; it raises TranscriptError."""

# Where the content does not tell, the end of the file's name does.
_SUFFIXES = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".vtt": Format.WEBVTT,
    ".srt": Format.SRT,
}


def format_of_text(head: Sequence[str], suffix: str) -> Format:
    """The format of a file: `JSONL` for any of JSON, because each line may have its own.

    Args:
        head: the file's first lines that are not blank.
        suffix: the end of its name, such as ".csv".
    """
    first = head[0] if head else ""
    if subtitles.is_webvtt(first):
        return Format.WEBVTT
    if first.lstrip().startswith(("{", "[")):
        return Format.JSONL
    if any(map(subtitles.is_times, head[:2])):
        return Format.SRT
    if has_table(first):
        return Format.CSV
    return _SUFFIXES.get(suffix.lower(), Format.JSONL)


def format_of_document(value: Mapping[str, Any]) -> Format | None:
    """The format of a JSON object that is a transcript; None if it is a dialogue, or neither."""
    # AssemblyAI's, like a dialogue, have an id and utterances.
    if "audio_url" in value and value.keys() & {"utterances", "words"}:
        return Format.ASSEMBLYAI
    if "utterances" in value:
        return None
    if isinstance(value.get("messages"), list):
        return Format.MESSAGES
    if isinstance(value.get("Transcript"), list) or isinstance(value.get("Segments"), list):
        return Format.CONTACT_LENS
    results = value.get("results")
    if isinstance(results, dict) and results.keys() & {"channels", "utterances"}:
        return Format.DEEPGRAM
    if isinstance(value.get("segments"), list) and "id" not in value:
        return Format.WHISPERX
    return None
