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
from training.datasets.located import DialogueOrFault, LocatedDialogue, LocatedUtterance, Place
from training.datasets.soundness import look_at
from training.datasets.tables import read_lines
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


def read(path: Path) -> Iterator[DialogueOrFault]:
    """Dialogues of a session's folder, or of all in the release, by name.

    Utterances stand in the order in which they begin, their ids are the names of the turns; the
    man is speaker "0", the woman "1". Those that raters gave none of the six labels have none here
    and stay in the history; the widely shared copies leave them out. A rating of an unknown kind is
    none, and so are a turn's second one and that of a turn which no transcript has.

    Args:
        path: the release's folder, or its `Session1` to `Session5`. By convention Session 5 is
            the test split; its speakers occur in no other.

    Raises:
        DatasetError: no such folder, or a transcript without ratings.
    """
    sessions = [path] if (path / "dialog").is_dir() else sorted(path.glob("Session[1-5]"))
    if not sessions:
        raise DatasetError(
            f"{path}: contains neither Session1 to Session5 nor dialog/transcriptions", path
        )
    for session in sessions:
        folder = session / "dialog" / "transcriptions"
        transcripts = sorted(folder.glob("Ses*.txt"))
        if not transcripts:
            raise DatasetError(f"{folder}: contains no transcript", folder)
        for transcript in transcripts:
            yield from _dialogue(transcript, session / "dialog" / "EmoEvaluation" / transcript.name)


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
    by_session = [(name, each) for name in SESSIONS for each in read(path / name)]
    dialogues = look_at((each for _, each in by_session), label_space).dialogues
    names = [name for name, _ in by_session]
    test = tuple(d for name, d in zip(names, dialogues, strict=True) if name == _TEST)
    others = [d for name, d in zip(names, dialogues, strict=True) if name != _TEST]
    return {
        "train": tuple(d for n, d in enumerate(others, start=1) if n % _DEV_EVERY),
        "dev": tuple(others[_DEV_EVERY - 1 :: _DEV_EVERY]),
        "test": test,
    }


def _dialogue(transcript: Path, ratings_file: Path) -> Iterator[DialogueOrFault]:
    ratings: dict[str, tuple[Place, str | None]] = {}
    for rating in _ratings(ratings_file):
        if isinstance(rating, DatasetError):
            yield rating
            continue
        turn, place, label = rating
        if turn in ratings:
            yield place.error(f"{turn} is also rated {ratings[turn][0].seen_from(place)}")
        else:
            ratings[turn] = place, label
    said = []
    for number, line in enumerate(read_lines(transcript), start=1):
        match = _LINE.fullmatch(line.strip())
        # What is overheard or uncertain has no turn's name, or one that ends in XX: MXX0, FXX1.
        if match is None or not match["text"].strip():
            continue
        _, label = ratings.get(match["turn"], (None, None))
        text = mend(match["text"].strip())
        utterance = Utterance(SPEAKERS[match["who"]], text, label, id=match["turn"])
        said.append((float(match["start"]), LocatedUtterance(utterance, Place(transcript, number))))
    spoken = {one.utterance.id for _, one in said}
    for turn, (place, label) in ratings.items():
        if label is not None and turn not in spoken:
            yield place.error(f"the transcript has no {turn}, which was rated")
    ordered = sorted(said, key=lambda one: one[0])  # those that begin together as they stand
    yield LocatedDialogue(transcript.stem, Place(transcript, 1), tuple(one for _, one in ordered))


def _ratings(path: Path) -> Iterator[tuple[str, Place, str | None] | DatasetError]:
    """Turns, with the line and the label of each; None: none of the six labels."""
    empty = True
    for number, line in enumerate(read_lines(path), start=1):
        match = _RATING.match(line)
        if match is None:  # the head, and each rater's own opinion below a turn
            continue
        empty = False
        place = Place(path, number)
        code = match["code"]
        if code in _LABELS or code in _OTHERS:
            yield match["turn"], place, _LABELS.get(code)
        else:
            yield place.error(f"emotion is {code!r}, which IEMOCAP does not have")
    if empty:
        raise DatasetError(f"{path}: contains no rating", path)
