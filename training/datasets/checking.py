"""Checks corpora: counts what they contain, and lists everything that is wrong with them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from service.conversation.labels import LabelSpace
from training.datasets.figures import Figures, figures
from training.datasets.formats import format_of
from training.datasets.located import LocatedDialogue
from training.datasets.reading import FORMATS, JSONL, check_there, look, space_of
from training.datasets.soundness import Reading
from training.datasets.text import Words, words

_SPEAKERS = 5
_FAULTS = 20
_NAMED = 3
_LONGEST = 40


@dataclass(frozen=True, slots=True)
class Checked:
    """A corpus that was looked at.

    Attributes:
        label_space: None: any label was taken for one.
        remarks: what is no fault, and good to know.
    """

    path: Path
    format: str
    label_space: LabelSpace | None
    reading: Reading
    figures: Figures
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it; speakers as their number."""
        return {
            "file": str(self.path),
            "format": self.format,
            "label_space": self.label_space.name if self.label_space else None,
            **asdict(self.figures),
            "speakers": len(self.figures.speakers),
            "remarks": [*self.remarks],
            "faults": [str(fault) for fault in self.reading.faults],
        }


def check_all(
    entries: Sequence[str],
    label_spaces: Mapping[str, LabelSpace],
    format_: str | None = None,
    label_space: str | None = None,
) -> list[Checked]:
    """Look at the corpora that a command line names, as `FORMAT:PATH` or as a path.

    Args:
        format_: of those that are named by their path; None: told by what they hold.
        label_space: of JSONL files that name none (`jsonl/LABEL_SPACE:PATH`); None: any label is
            one.

    Raises:
        DatasetError: an unknown format or label space, or one of the files is missing or could be
            of any format.
    """
    named = [_named_by(entry, format_, label_space) for entry in entries]
    check_there(path for _, path, _ in named)
    checked: list[Checked] = []
    for form, path, space in named:
        kind = form or format_of(path)
        of = None
        if kind != JSONL or space is not None:
            of = space_of(kind, path, label_spaces, space)
        checked.append(_checked(kind, path, of, label_spaces, checked))
    return checked


def _named_by(
    entry: str, format_: str | None, label_space: str | None
) -> tuple[str | None, Path, str | None]:
    """The format and the label space that are named for a corpus, and its path."""
    form, colon, path = entry.partition(":")
    kind, _, space = form.partition("/")
    if colon and kind in (*FORMATS, JSONL) and not Path(entry).exists():
        return kind, Path(path), space or label_space
    return format_, Path(entry), label_space


def _checked(
    format_: str,
    path: Path,
    label_space: LabelSpace | None,
    label_spaces: Mapping[str, LabelSpace],
    before: Sequence[Checked],
) -> Checked:
    reading = look(format_, path, label_space)
    of = figures(reading.located, label_space)
    # A row that comes again is out of order too, and a fault.
    remarks = [*([] if reading.faults else _of_numbers(of)), *_shared(reading, before)]
    if label_space is None and of.labels:
        remarks.append(_known_to(of.labels, label_spaces))
    return Checked(path, format_, label_space, reading, of, tuple(remarks))


def _of_numbers(of: Figures) -> Iterator[str]:
    if of.scattered:
        yield (
            f"the rows of {_so_many(of.scattered, 'dialogue')} are separated or out of order; "
            "they are joined by their ids"
        )
    if of.gaps:
        yield (
            f"{_so_many(of.missing, 'utterance number')} missing between the first and the last, "
            f"in {_so_many(of.gaps, 'dialogue')}"
        )


def _shared(reading: Reading, before: Sequence[Checked]) -> Iterator[str]:
    """What a corpus has in common with others: ids, and dialogues of two utterances or more."""
    for other in before:
        known = {one.id for one in other.reading.located}
        said = {_said(one) for one in other.reading.located}
        if ids := [one.id for one in reading.located if one.id in known]:
            yield f"ids of dialogues that are also in {other.path}: {_named(ids)}"
        if same := [d.id for d in reading.located if len(d.utterances) > 1 and _said(d) in said]:
            yield f"dialogues with the same text as one in {other.path}: {_named(same)}"


def _said(dialogue: LocatedDialogue) -> tuple[Words, ...]:
    return tuple(words(one.utterance.text) for one in dialogue.utterances)


def _known_to(labels: Mapping[str, int], label_spaces: Mapping[str, LabelSpace]) -> str:
    spaces = [name for name, space in label_spaces.items() if _knows(space, labels)]
    known = f"; all are labels of {', '.join(spaces)}" if spaces else ""
    return f"labels are not checked: name their label space with --label-space{known}"


def _knows(space: LabelSpace, labels: Iterable[str]) -> bool:
    return all(label.casefold() in space.names for label in labels)


def _so_many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _named(ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > _NAMED else ""
    return f"{len(ids):,} ({', '.join(map(repr, ids[:_NAMED]))}{more})"


def as_markdown(checked: Checked) -> str:
    """What was found, as tables in Markdown and lines."""
    of = checked.figures
    space = checked.label_space.name if checked.label_space else "any labels"
    kind = checked.format if checked.format == space else f"{checked.format}, {space}"
    speakers = len(of.speakers)
    how_much = ", ".join(
        _so_many(number, what)
        for number, what in (
            (of.dialogues, "dialogue"),
            (of.utterances, "utterance"),
            (speakers, "speaker"),
        )
    )
    parts = [f"{checked.path}: {kind}, {how_much}"]
    if of.utterances:
        labels = {**of.labels, **({"(no label)": of.unlabelled} if of.unlabelled else {})}
        parts.append(_shares("label", labels, of.utterances))
        shown = dict(islice(of.speakers.items(), _SPEAKERS))
        if others := of.utterances - sum(shown.values()):
            shown[f"({speakers - len(shown):,} others)"] = others
        parts.append(_shares("speaker", shown, of.utterances))
        rows = [
            f"| {what} | {s.least:,} | {s.median:,.4g} | {s.mean:,.1f} | {s.most:,} |"
            for what, s in of.lengths.items()
        ]
        parts.append(
            "\n".join(["| | least | median | mean | most |", "|---|---|---|---|---|", *rows])
        )
    parts += checked.remarks
    faults = checked.reading.faults
    if faults:
        shown_faults = [str(fault) for fault in faults[:_FAULTS]]
        more = len(faults) - len(shown_faults)
        parts.append(
            "\n".join(
                [
                    f"{_so_many(len(faults), 'fault')}:",
                    *shown_faults,
                    *([f"and {more:,} more"] if more else []),
                ]
            )
        )
    else:
        parts.append("No faults.")
    return "\n\n".join(parts)


def _shares(what: str, counts: Mapping[str, int], whole: int) -> str:
    rows = [
        f"| {_cell(name)} | {count:,} | {100 * count / whole:.1f} |"
        for name, count in counts.items()
    ]
    return "\n".join([f"| {what} | utterances | % |", "|---|---|---|", *rows])


def _cell(name: str) -> str:
    """A name as a cell holds it: on one line, without what ends a cell."""
    shown = " ".join(name.split()).replace("|", "\\|") or "(no name)"
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}..."
