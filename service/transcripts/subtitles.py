"""Subtitles: WebVTT and SubRip (SRT).

Of WebVTT (https://www.w3.org/TR/webvtt1/), cues, voices and character references are read; notes,
styles, regions, settings and markup are skipped. SubRip has no standard; what it has in common
with WebVTT is read the same way, and commas in times.
"""

import html
import re
from collections.abc import Iterable, Iterator

from service.transcripts.segments import Segment, TranscriptError, checked

_MOST_LINES = 1_000  # of one cue
_MOST_CHARACTERS = 100_000

_EXAMPLE = "00:00:01.000 --> 00:00:02.500"

_HEADER = re.compile(r"WEBVTT(?:[ \t].*)?")
_SKIPPED = re.compile(r"(?:NOTE|STYLE|REGION)(?:[ \t].*)?")
_TIME = r"(?:(\d{1,6}):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMES = re.compile(rf"{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t].*)?")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t\n]([^<>]*)>")
# Tags and times of WebVTT and SubRip, and SubRip's positions, such as {\an8}.
_TAGS = r"c|i|b|u|s|v|ruby|rt|lang|font"
_MARKUP = re.compile(rf"</?(?:{_TAGS})(?:[.\s][^<>]*)?>|<[\d:.]+>|\{{\\[^{{}}]*\}}", re.I)
# "Ann: ", "[SPEAKER_00]: ", "- Ann Moor: "; a longer phrase before a colon is text.
_NAMED = re.compile(
    r"(?:[-–—][ \t]*)?(?:\[([^\[\]]{1,100})\]|([^\W\d_][^:\[\]<>?!;]{0,59})):[ \t]+"
)
_MOST_WORDS_OF_A_NAME = 4
# More digits than any character's number has, of which Python converts no more than 4,300.
_LONG_REFERENCE = re.compile(r"&#\d{20,};?", re.ASCII)

Cue = Segment | TranscriptError


def is_webvtt(first: str) -> bool:
    """Whether a file with this first line is WebVTT."""
    return _HEADER.fullmatch(first.rstrip("\r\n")) is not None


def is_times(line: str) -> bool:
    """Whether a line has the times of a cue."""
    return _TIMES.fullmatch(line.strip()) is not None


def webvtt(lines: Iterable[str]) -> Iterator[Cue]:
    """The segments of a WebVTT file, with the error of an invalid cue in its place.

    A segment's speaker is its voice (`<v Ann>`) or, in a cue without voices, the name before a
    colon, as Zoom (`Ann Moor: ...`) and WhisperX (`[SPEAKER_00]: ...`) write it.

    Raises:
        TranscriptError: the file does not begin with "WEBVTT".
    """
    for position, (number, block) in enumerate(_blocks(lines)):
        if position == 0:
            if not is_webvtt(block[0]):
                raise TranscriptError('a WebVTT file begins with "WEBVTT"', number)
            # Headers, such as Kind and Language, continue up to a blank line.
            continue
        if not _SKIPPED.fullmatch(block[0]):
            yield from _segments(block, number)


def srt(lines: Iterable[str]) -> Iterator[Cue]:
    """The segments of a SubRip file, with the error of an invalid cue in its place.

    A segment's speaker is the name before a colon (`Ann: ...`).
    """
    for number, block in _blocks(lines):
        yield from _segments(block, number)


def _blocks(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """What blank lines separate, each with the number of its first line, cut if it is too long."""
    first, block = 1, list[str]()
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped:
            if block:
                yield first, block
            block = []
            continue
        if not block:
            first = number
        if len(block) <= _MOST_LINES:
            block.append(stripped[: _MOST_CHARACTERS + 1])
    if block:
        yield first, block


def _segments(block: list[str], number: int) -> Iterator[Cue]:
    try:
        yield from _of_cue(block, number)
    except TranscriptError as error:
        yield error


def _of_cue(block: list[str], number: int) -> list[Segment]:
    at = next((at for at, line in enumerate(block[:2]) if "-->" in line), None)
    if at is None:
        raise TranscriptError(f"a cue needs a line with times, such as {_EXAMPLE}", number)
    times = _TIMES.fullmatch(block[at])
    if times is None:
        raise TranscriptError(f"{block[at][:80]!r} are not times such as {_EXAMPLE}", number + at)
    if len(block) > _MOST_LINES or sum(map(len, block)) > _MOST_CHARACTERS:
        raise TranscriptError(
            f"a cue has at most {_MOST_LINES:,} lines and {_MOST_CHARACTERS:,} characters", number
        )
    start, end = _seconds(times.groups()[:4]), _seconds(times.groups()[4:])
    lines = block[at + 1 :]
    payload = "\n".join(lines)
    turns = _by_voice(payload) if _VOICE.search(payload) else _by_name(lines)
    return [
        checked(Segment(speaker, text, start, end), line=number) for speaker, text in turns if text
    ]


def _seconds(time: tuple[str, ...]) -> float:
    """The seconds of hours, which may be missing, minutes, seconds and a decimal fraction."""
    hours, minutes, seconds, fraction = time
    whole = 3600 * int(hours or 0) + 60 * int(minutes) + int(seconds)
    return (1000 * whole + int(fraction.ljust(3, "0"))) / 1000


def _by_voice(payload: str) -> Iterator[tuple[str | None, str]]:
    before, *voices = _VOICE.split(payload)
    yield None, _plain(before)
    for name, text in zip(voices[::2], voices[1::2], strict=True):
        yield _plain(name) or None, _plain(text)


def _by_name(lines: list[str]) -> Iterator[tuple[str | None, str]]:
    speaker: str | None = None
    text: list[str] = []
    for line in (_MARKUP.sub("", line) for line in lines):
        match = _NAMED.match(line)
        name = match and (match[1] or match[2]).strip()
        if match and name and len(name.split()) <= _MOST_WORDS_OF_A_NAME:
            yield speaker, _plain(" ".join(text))
            speaker, text = _unescaped(name), [line[match.end() :]]
        else:
            text.append(line)
    yield speaker, _plain(" ".join(text))


def _plain(text: str) -> str:
    """A text without markup, on one line."""
    return " ".join(_unescaped(_MARKUP.sub("", text)).split())


def _unescaped(text: str) -> str:
    """A text with characters in place of references to them; U+FFFD where there is no character."""
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text))
