"""IEMOCAP's official release (Busso et al. 2008): transcripts and categorical ratings.

Of a session's folder, `dialog/transcriptions/*.txt` (who says what, when) and
`dialog/EmoEvaluation/*.txt` (the raters' majority) are read; sound and video are not needed.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from training.datasets.errors import DatasetError
from training.datasets.tables import read_text
from training.datasets.text import mend

LABEL_SPACE = "iemocap"

# The six that are evaluated; what else raters said (fear, surprise, no majority, ...) is no label.
_LABELS = {
    "hap": "happy",
    "sad": "sad",
    "neu": "neutral",
    "ang": "angry",
    "exc": "excited",
    "fru": "frustrated",
}
_OTHERS = {"fea", "sur", "dis", "oth", "xxx"}
# InstructERC's numbers, which its template keeps, whoever begins.
SPEAKERS = {"M": "0", "F": "1"}
SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
_TEST = SESSIONS[-1]
_DEV_EVERY = 10

# Ses01F_impro01_M003 [018.0100-022.3500]: Did you get the mail?
_LINE = re.compile(r"(?P<turn>\w+_(?P<who>[FM])\d+) \[(?P<start>\d+\.\d+)-\d+\.\d+\]:(?P<text>.*)")
# [18.0100 - 22.3500]	Ses01F_impro01_M003	neu	[2.5000, 2.5000, 2.5000]
_RATING = re.compile(r"\[[\d. -]+\]\t(?P<turn>\w+)\t(?P<code>\w+)\t\[")


def read(path: Path, label_space: LabelSpace) -> Iterator[Dialogue]:
    """Dialogues of a session's folder, or of all in the release, by name.

    Utterances stand in the order in which they begin, their ids are the names of the turns; the
    man is speaker "0", the woman "1". Those that raters gave none of the six labels have none here
    and stay in the history; the widely shared copies leave them out.

    Args:
        path: the release's folder, or its `Session1` to `Session5`. By convention Session 5 is
            the test split; its speakers occur in no other.

    Raises:
        DatasetError: no such folder, a transcript without ratings, a rating of an unknown kind, or
            a rated turn that no transcript has.
    """
    sessions = [path] if (path / "dialog").is_dir() else sorted(path.glob("Session[1-5]"))
    if not sessions:
        raise DatasetError(f"{path}: holds neither Session1 to Session5 nor dialog/transcriptions")
    for session in sessions:
        transcripts = sorted((session / "dialog" / "transcriptions").glob("Ses*.txt"))
        if not transcripts:
            raise DatasetError(f"{session / 'dialog' / 'transcriptions'}: holds no transcript")
        for transcript in transcripts:
            ratings = session / "dialog" / "EmoEvaluation" / transcript.name
            yield _dialogue(transcript, _ratings(ratings), label_space)


def read_splits(path: Path, label_space: LabelSpace) -> dict[str, tuple[Dialogue, ...]]:
    """The whole release as train, dev and test.

    Session 5 is the test split, by convention. IEMOCAP has no development split of its own: here
    it is every tenth dialogue of the other sessions, by name (12 of 120; as many as the shared
    pickle holds out, not the same ones).

    Args:
        path: the release's folder.

    Raises:
        DatasetError: as `read`, or a session is missing.
    """
    if missing := [name for name in SESSIONS if not (path / name).is_dir()]:
        raise DatasetError(f"{path}: has no {', '.join(missing)}; splits need the whole release")
    test = tuple(read(path / _TEST, label_space))
    others = [d for name in SESSIONS if name != _TEST for d in read(path / name, label_space)]
    return {
        "train": tuple(d for n, d in enumerate(others, start=1) if n % _DEV_EVERY),
        "dev": tuple(others[_DEV_EVERY - 1 :: _DEV_EVERY]),
        "test": test,
    }


def _dialogue(transcript: Path, ratings: dict[str, str | None], space: LabelSpace) -> Dialogue:
    said = []
    for line in read_text(transcript).splitlines():
        found = _LINE.fullmatch(line.strip())
        # What is overheard or uncertain has no turn's name, or one that ends in XX: MXX0, FXX1.
        if found is None or not found["text"].strip():
            continue
        code = ratings.pop(found["turn"], None)
        label = None if code is None else space.label(_LABELS[code]).name
        text = mend(found["text"].strip())
        utterance = Utterance(SPEAKERS[found["who"]], text, label, id=found["turn"])
        said.append((float(found["start"]), utterance))
    if missing := [turn for turn, code in ratings.items() if code is not None]:
        raise DatasetError(f"{transcript}: has no {missing[0]}, which was rated")
    ordered = sorted(said, key=lambda one: one[0])  # those that begin together as they stand
    return Dialogue(transcript.stem, tuple(utterance for _, utterance in ordered))


def _ratings(path: Path) -> dict[str, str | None]:
    """By turn; None: none of the six labels."""
    ratings: dict[str, str | None] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        found = _RATING.match(line)
        if found is None:  # the head, and each rater's own opinion below a turn
            continue
        code = found["code"]
        if code not in _LABELS and code not in _OTHERS:
            raise DatasetError(f"{path}:{number}: emotion is {code!r}, which IEMOCAP has not")
        ratings[found["turn"]] = code if code in _LABELS else None
    if not ratings:
        raise DatasetError(f"{path}: holds no rating")
    return ratings
