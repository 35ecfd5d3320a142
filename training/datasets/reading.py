"""One way to name a corpus file and read it, whatever its format."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace, UnknownLabel
from service.dialogue_files import DialogueFormatError, read_dialogues
from training.datasets import dailydialog, emorynlp, goemotions, iemocap, meld
from training.datasets.errors import DatasetError

Reader = Callable[[Path, LabelSpace], Iterator[Dialogue]]

# The label space a format's labels are in; JSONL files may be in any.
FORMATS: Mapping[str, tuple[Reader, str]] = {
    "meld": (meld.read, meld.LABEL_SPACE),
    "emorynlp": (emorynlp.read, emorynlp.LABEL_SPACE),
    "goemotions": (goemotions.read, goemotions.LABEL_SPACE),
    "iemocap": (iemocap.read, iemocap.LABEL_SPACE),
    "dailydialog": (dailydialog.read, dailydialog.LABEL_SPACE),
}


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
        DatasetError: an unknown format or label space, or a file that is not of that format.
    """
    if format_ == "jsonl":
        if label_space is None or label_space not in label_spaces:
            raise DatasetError(f"{path}: a jsonl corpus needs one of {', '.join(label_spaces)}")
        space = label_spaces[label_space]
        dialogues = tuple(_labelled(path, space))
    elif format_ in FORMATS:
        reader, name = FORMATS[format_]
        space = label_spaces[name]
        dialogues = tuple(reader(path, space))
    else:
        raise DatasetError(f"unknown format {format_!r}: {', '.join((*FORMATS, 'jsonl'))}")
    if not dialogues:
        raise DatasetError(f"{path}: holds no dialogue")
    return Corpus(path, space, dialogues)


def read_named(entry: str, label_spaces: Mapping[str, LabelSpace]) -> Corpus:
    """Read the corpus that a command line names, as `FORMAT:PATH` or `jsonl/LABEL_SPACE:PATH`.

    Raises:
        DatasetError: as `read_corpus`, or there is no colon.
    """
    form, colon, path = entry.partition(":")
    if not colon:
        raise DatasetError(f"{entry!r} is not FORMAT:PATH, such as meld:dev_sent_emo.csv")
    kind, _, space = form.partition("/")
    return read_corpus(kind, Path(path), label_spaces, space or None)


def _labelled(path: Path, label_space: LabelSpace) -> Iterator[Dialogue]:
    try:
        for dialogue in read_dialogues(path):
            where = f"{path}: dialogue {dialogue.id!r}"
            utterances = (
                replace(u, label=_name(u.label, label_space, f"{where}, utterances[{index}].label"))
                for index, u in enumerate(dialogue.utterances)
            )
            yield replace(dialogue, utterances=tuple(utterances))
    except DialogueFormatError as error:
        raise DatasetError(str(error)) from None


def _name(label: str | None, label_space: LabelSpace, where: str) -> str | None:
    """The label as the label space spells it: wherever labels are compared, "JOY" is no "joy"."""
    if label is None:
        return None
    try:
        return label_space.label(label).name
    except UnknownLabel as error:
        raise DatasetError(f"{where}: {error}") from None
