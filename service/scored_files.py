"""Files of scored dialogues: JSON lines, a table, or subtitles for players."""

import csv
import html
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TextIO

from service.conversation.dialogue import Dialogue
from service.json_lines import line_of


class Output(StrEnum):
    """A format of scored dialogues."""

    JSONL = "jsonl"
    CSV = "csv"
    WEBVTT = "webvtt"


class OutputMismatch(ValueError):
    """A format cannot hold the dialogues; the message names the dialogue and the remedy."""


class Writer(Protocol):
    """Writes scored dialogues one after another."""

    def add(self, scored: Mapping[str, Any]) -> None:
        """Write a dialogue: its JSON object, with the recognition of each utterance in it."""
        ...

    def refuse(self, error: str) -> None:
        """Write that a part of the input was not scored, where the format has a place for it."""
        ...


_SUFFIXES = {".csv": Output.CSV, ".vtt": Output.WEBVTT}
_COLUMNS = ("id", "speaker", "role", "start", "end", "text", "label")
# A cue without a valid end lasts until the next, or this long.
_CUE_S = 3.0
_OTHER_THAN_CLASS = re.compile(r"[^A-Za-z0-9_-]+")


def output_of(target: Path) -> Output:
    """The format that a file's name asks for: JSON lines unless it ends with .csv or .vtt."""
    return _SUFFIXES.get(target.suffix.lower(), Output.JSONL)


def check_output(output: Output, dialogue: Dialogue, before: int) -> None:
    """Check that a dialogue can be written.

    Args:
        before: how many dialogues precede it.

    Raises:
        OutputMismatch: subtitles can neither have it after others nor without times.
    """
    if output is not Output.WEBVTT:
        return
    remedy = "write a table or JSON lines: --to csv, --to jsonl"
    if before:
        raise OutputMismatch(f"WebVTT holds one dialogue, and {dialogue.id!r} is another; {remedy}")
    for index, utterance in enumerate(dialogue.utterances):
        if utterance.start is None:
            raise OutputMismatch(
                f"WebVTT shows utterances at their times, and utterance {index} of "
                f"{dialogue.id!r} has no start; {remedy}"
            )


def writer(output: Output, file: TextIO, labels: Sequence[str]) -> Writer:
    """Begin to write.

    Args:
        labels: those of the label space, in its order.
    """
    match output:
        case Output.CSV:
            return _Table(file, labels)
        case Output.WEBVTT:
            return _Subtitles(file)
    return _Lines(file)


class _Lines:
    """A dialogue a line, with everything."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, scored: Mapping[str, Any]) -> None:
        self._file.write(line_of(scored))

    def refuse(self, error: str) -> None:
        self._file.write(line_of({"error": error}))


class _Table:
    """An utterance a row, with a column for the probability of each label."""

    def __init__(self, file: TextIO, labels: Sequence[str]) -> None:
        self._labels = labels
        self._rows = csv.writer(file)  # of RFC 4180
        self._rows.writerow(
            [
                *("dialogue", "index", *_COLUMNS, "emotion", "confidence", "degraded", "truncated"),
                *(f"p_{label}" for label in labels),
            ]
        )

    def add(self, scored: Mapping[str, Any]) -> None:
        for index, row in enumerate(scored["utterances"]):
            emotion = row["emotion"]
            self._rows.writerow(
                [
                    scored["id"],
                    index,
                    *(row.get(name) for name in _COLUMNS),
                    emotion["label"],
                    emotion["confidence"],
                    " ".join(row["degraded"]),
                    str(row["truncated"]).lower(),
                    *(emotion["probabilities"][label] for label in self._labels),
                ]
            )

    def refuse(self, error: str) -> None:
        """A row is an utterance; errors are reported by the command alone."""


class _Subtitles:
    """A cue an utterance, with its speaker as the voice and its emotion as a class."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        file.write("WEBVTT\n")

    def add(self, scored: Mapping[str, Any]) -> None:
        rows = sorted(scored["utterances"], key=lambda row: row["start"])
        starts = [row["start"] for row in rows[1:]]
        for number, (row, following) in enumerate(zip(rows, [*starts, None], strict=True), 1):
            start, end = row["start"], row.get("end")
            if end is None or end < start:
                end = following if following and following > start else start + _CUE_S
            self._file.write(
                f"\n{number}\n{_clock(start)} --> {_clock(end)}\n"
                f"<v {_escaped(row['speaker'])}><c.{_class_of(row['emotion']['label'])}>"
                f"{_escaped(row['text'])}</c></v>\n"
            )

    def refuse(self, error: str) -> None:
        """A cue is an utterance; errors are reported by the command alone."""


def _clock(seconds: float) -> str:
    """A time as `HH:MM:SS.mmm`."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{whole:02}.{milliseconds:03}"


def _escaped(text: str) -> str:
    """A text on one line, without what WebVTT would read as markup."""
    return html.escape(" ".join(text.split()), quote=False)


def _class_of(label: str) -> str:
    """A label as a name of a class: `no emotion` becomes `no-emotion`."""
    return _OTHER_THAN_CLASS.sub("-", label)
