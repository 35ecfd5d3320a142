"""The widely shared pickles of IEMOCAP, MELD and EmoryNLP (declare-lab/conv-emotion, COSMIC).

A pickle may run any code when it is loaded, so here nothing is called: plain lists, dictionaries,
numbers and strings are read, and numpy's integers through stand-ins; anything else is refused.
"""

import io
import pickle  # see `_PlainUnpickler`
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.iemocap import SPEAKERS
from training.datasets.located import LocatedDialogue, LocatedUtterance, Place
from training.datasets.soundness import look_at
from training.datasets.text import mend

# In the order in which the pickles name them.
SPLITS = ("train", "test", "dev")

_WITH_SENTIMENT = 7  # parts of MELD's; the others have six


def read(path: Path, label_space: LabelSpace) -> dict[str, tuple[Dialogue, ...]]:
    """Dialogues by split.

    The pickle is a list: speakers, emotions, with MELD sentiments, texts, each by dialogue id, then
    the ids of train, test and dev. An emotion is the number of a label in the label space's order,
    a speaker "M", "F" or a one-hot row, and called "0" and "1" or by its place in the row.

    Raises:
        DatasetError: no such file, something else than that, a dialogue that is there twice, in one
            split or in two, or a pickle that wants to run code.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    try:
        parts = _PlainUnpickler(io.BytesIO(raw)).load()
        splits = _splits(path, parts, label_space)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}", path) from None
    except Exception as error:  # the errors of a broken pickle are of many kinds
        detail = f"{type(error).__name__}: {error}"
        raise DatasetError(
            f"{path}: neither one of the shared pickles nor the folder of a release: {detail}"
        ) from None
    dialogues = iter(look_at(chain.from_iterable(splits.values()), label_space).dialogues)
    return {name: tuple(islice(dialogues, len(split))) for name, split in splits.items()}


class _PlainUnpickler(pickle.Unpickler):
    """Builds values of Python's own plain types only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return _IntegerType
        if (module, name) in _SCALARS:
            return _integer
        raise DatasetError(f"the pickle refers to {module}.{name}, which is not loaded")


class _IntegerType:
    """Stands in for numpy's description of an integer."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in ("i4", "i8"):
            raise DatasetError(f"the pickle contains numbers of type {code!r}")

    def __setstate__(self, state: object) -> None:
        """Byte order and the like; the files are little-endian."""


def _integer(kind: _IntegerType, raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


_SCALARS = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}


def _splits(
    path: Path, parts: Sequence[Any], label_space: LabelSpace
) -> dict[str, tuple[LocatedDialogue, ...]]:
    speakers, emotions, *_ = parts
    labels_of = _label_space(parts, next(who for said in speakers.values() for who in said))
    if labels_of != label_space.name:
        raise DatasetError(f"its labels are of {labels_of}, not of {label_space.name}")
    texts, *splits = parts[3:] if len(parts) == _WITH_SENTIMENT else parts[2:]
    return {
        name: tuple(_dialogues(path, name, ids, (speakers, emotions, texts), label_space))
        for name, ids in zip(SPLITS, splits, strict=True)
    }


def _label_space(parts: Sequence[Any], speaker: object) -> str:
    """Whose pickle it is: MELD's alone has sentiments, IEMOCAP's alone calls speakers M and F."""
    if len(parts) == _WITH_SENTIMENT:
        return "meld"
    return "iemocap" if isinstance(speaker, str) else "emorynlp"


def _dialogues(
    path: Path,
    split: str,
    ids: Sequence[Any],
    of_dialogues: Sequence[Mapping[Any, Sequence[object]]],
    label_space: LabelSpace,
) -> Iterator[LocatedDialogue]:
    """
    Args:
        of_dialogues: speakers, emotions and texts, by dialogue id.
    """
    speakers, emotions, texts = of_dialogues
    for number, one in enumerate(ids):
        utterances = []
        rows = zip(speakers[one], emotions[one], texts[one], strict=True)
        for index, (who, emotion, text) in enumerate(rows):
            where = f"dialogue {str(one)!r}, utterances[{index}]"
            utterance = _utterance(who, emotion, text, label_space, where)
            utterances.append(LocatedUtterance(utterance, Place(path, part=where)))
        place = Place(path, part=f"ids of {split}[{number}]")
        yield LocatedDialogue(str(one), place, tuple(utterances))


def _utterance(
    who: object, emotion: object, text: object, label_space: LabelSpace, where: str
) -> Utterance:
    names = label_space.names
    # A number below 0 would count from the last; True would be 1.
    if type(emotion) is not int or not 0 <= emotion < len(names):
        raise DatasetError(f"{where}: emotion is {emotion!r}, not 0 to {len(names) - 1}")
    if not isinstance(text, str):
        raise DatasetError(f"{where}: text is {text!r}")
    return Utterance(_speaker(who, where), mend(text), names[emotion])


def _speaker(who: object, where: str) -> str:
    if isinstance(who, str) and who in SPEAKERS:
        return SPEAKERS[who]
    if isinstance(who, (list, tuple)) and who.count(1) == 1 and who.count(0) == len(who) - 1:
        return str(who.index(1))
    raise DatasetError(f"{where}: speaker is {who!r}, neither M nor F nor a one-hot row")
