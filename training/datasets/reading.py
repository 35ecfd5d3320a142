"""One way to name a corpus file and read it, whatever its format."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from training.datasets import dailydialog, emorynlp, goemotions, iemocap, jsonl, meld
from training.datasets.errors import DatasetError
from training.datasets.located import DialogueOrFault
from training.datasets.soundness import Reading, look_at

Reader = Callable[[Path], Iterator[DialogueOrFault]]

log = logging.getLogger(__name__)

# The label space a format's labels are in; JSONL files may be in any.
FORMATS: Mapping[str, tuple[Reader, str]] = {
    "meld": (meld.read, meld.LABEL_SPACE),
    "emorynlp": (emorynlp.read, emorynlp.LABEL_SPACE),
    "goemotions": (goemotions.read, goemotions.LABEL_SPACE),
    "iemocap": (iemocap.read, iemocap.LABEL_SPACE),
    "dailydialog": (dailydialog.read, dailydialog.LABEL_SPACE),
}
JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Labelled dialogues of one file, or of one folder.

    Attributes:
        pseudo_labelled: whether the labels are what models said.
    """

    path: Path
    label_space: LabelSpace
    dialogues: tuple[Dialogue, ...]
    pseudo_labelled: bool = False


def read_corpus(
    format_: str, path: Path, label_spaces: Mapping[str, LabelSpace], label_space: str | None = None
) -> Corpus:
    """Read a corpus file, or a folder of them.

    Args:
        format_: a key of `FORMATS`, or "jsonl" for the interchange format, which then needs
            `label_space`.

    Raises:
        DatasetError: an unknown format or label space, a file that is not of that format, or
            something in it that is not as it must be; the message names the first such place.
    """
    space = space_of(format_, path, label_spaces, label_space)
    reading = look(format_, path, space)
    dialogues = reading.dialogues
    if scattered := sum(one.scattered for one in reading.located):
        log.info(
            "%s: the rows of %d dialogues are separated or out of order; they are joined by "
            "their ids",
            *(path, scattered),
        )
    return Corpus(path, space, dialogues)


def space_of(
    format_: str, path: Path, label_spaces: Mapping[str, LabelSpace], label_space: str | None = None
) -> LabelSpace:
    """The label space of a format, or for "jsonl" the one that is named.

    Raises:
        DatasetError: an unknown format or label space.
    """
    if format_ == JSONL:
        known = ", ".join(label_spaces)
        if label_space is None:
            raise DatasetError(f"{path}: a jsonl corpus needs a label space: one of {known}")
        if label_space not in label_spaces:
            raise DatasetError(f"{path}: unknown label space {label_space!r}; known are {known}")
        return label_spaces[label_space]
    if format_ not in FORMATS:
        raise DatasetError(f"unknown format {format_!r}; known are {', '.join((*FORMATS, JSONL))}")
    return label_spaces[FORMATS[format_][1]]


def look(format_: str, path: Path, label_space: LabelSpace | None) -> Reading:
    """Everything that a corpus holds and everything that is wrong with it.

    Args:
        format_: a key of `FORMATS`, or "jsonl".
        label_space: that its labels are of; None: any label is one.
    """
    reader = jsonl.read if format_ == JSONL else FORMATS[format_][0]
    reading = look_at(reader(path), label_space, ids_of_file=format_ != JSONL)
    if reading.located or reading.faults:
        return reading
    return Reading((), (DatasetError(f"{path}: contains no dialogue", path),))


def check_there(paths: Iterable[Path]) -> None:
    """See that files, and folders, can be read: all of them, before the first one is.

    Raises:
        DatasetError: some cannot; the message names them all.
    """
    problems = []
    for path in dict.fromkeys(paths):
        try:
            path.stat()
            if not os.access(path, os.R_OK):
                problems.append(f"{path}: cannot be read: permission denied")
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    if problems:
        raise DatasetError("; ".join(problems))


def read_all_named(
    entries: Sequence[str], label_spaces: Mapping[str, LabelSpace], others: Iterable[Path] = ()
) -> list[Corpus]:
    """Read the corpora that a command line names, each as `read_named` does.

    Args:
        others: files that the command is to read too.

    Raises:
        DatasetError: as `read_named`; the message names all files that are missing.
    """
    check_there((*(_named(entry)[1] for entry in entries), *others))
    return [read_named(entry, label_spaces) for entry in entries]


def read_named(entry: str, label_spaces: Mapping[str, LabelSpace]) -> Corpus:
    """Read the corpus that a command line names, as `FORMAT:PATH` or `jsonl/LABEL_SPACE:PATH`.

    Raises:
        DatasetError: as `read_corpus`, or there is no colon.
    """
    form, path = _named(entry)
    kind, _, space = form.partition("/")
    return read_corpus(kind, path, label_spaces, space or None)


def _named(entry: str) -> tuple[str, Path]:
    form, colon, path = entry.partition(":")
    if not colon:
        raise DatasetError(f"{entry!r} is not FORMAT:PATH, such as meld:dev_sent_emo.csv")
    return form, Path(path)
