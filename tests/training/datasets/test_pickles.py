"""The shared pickles, read without running what may be in them."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.conversation.dialogue import Dialogue, Utterance
from service.conversation.labels import LabelSpace
from service.dialogue_files import read_dialogues
from training.cli import app
from training.datasets import pickles
from training.datasets.errors import DatasetError

IEMOCAP = [
    {"Ses01F_1": ["F", "M"], "Ses05M_1": ["M"], "Ses02F_1": ["F"]},
    {"Ses01F_1": [2, 5], "Ses05M_1": [0], "Ses02F_1": [1]},
    {"Ses01F_1": ["It is late.", "I know!"], "Ses05M_1": ["Hurrah."], "Ses02F_1": ["Oh."]},
    ["Ses01F_1"],
    ["Ses05M_1"],
    ["Ses02F_1"],
]


def one_hot(place: int, integer: Any = int) -> list[Any]:
    return [integer(number == place) for number in range(9)]


def write(value: object, tmp_path: Path, protocol: int = 4) -> Path:
    path = tmp_path / "shared.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def test_iemocap_is_read_by_split(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> None:
    """Numbers are labels in the order of the published prompts; train, test, dev in this order.

    A man is speaker 0 and a woman 1, as in those prompts.
    """
    splits = pickles.read(write(IEMOCAP, tmp_path), spaces["iemocap"])

    assert splits == {
        "train": (
            Dialogue(
                "Ses01F_1",
                (
                    Utterance("1", "It is late.", "neutral"),
                    Utterance("0", "I know!", "frustrated"),
                ),
            ),
        ),
        "test": (Dialogue("Ses05M_1", (Utterance("0", "Hurrah.", "happy"),)),),
        "dev": (Dialogue("Ses02F_1", (Utterance("1", "Oh.", "sad"),)),),
    }


def test_meld_has_sentiments_between_and_broken_punctuation(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Windows-1252 read as Latin-1."""
    value = [
        {0: [one_hot(0), one_hot(3)]},
        {0: [4, 6]},
        {0: [1, 2]},
        {0: ["It\u0092s fine", "Out!"]},
        [0],
        [],
        [],
    ]

    splits = pickles.read(write(value, tmp_path), spaces["meld"])

    utterances = (Utterance("0", "It’s fine", "joy"), Utterance("3", "Out!", "anger"))
    assert splits == {"train": (Dialogue("0", utterances),), "test": (), "dev": ()}


@pytest.mark.parametrize("integer", [np.int32, np.int64])
def test_emorynlp_has_numpy_integers(
    tmp_path: Path, spaces: Mapping[str, LabelSpace], integer: Any
) -> None:
    """They are read without numpy."""
    value = [
        {"1_2_3": [one_hot(1, integer)]},
        {"1_2_3": [6]},
        {"1_2_3": ["Run!"]},
        ["1_2_3"],
        [],
        [],
    ]

    splits = pickles.read(write(value, tmp_path), spaces["emorynlp"])

    assert splits["train"] == (Dialogue("1_2_3", (Utterance("1", "Run!", "scared"),)),)


class Payload:
    """Makes a folder when it is loaded carelessly."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_runs_code_does_not_run_it(
    tmp_path: Path, spaces: Mapping[str, LabelSpace], protocol: int
) -> None:
    """In whatever place of the value, by whatever protocol."""
    trap = tmp_path / "trapped"
    path = write(
        [{"a": ["M"]}, {"a": [0]}, {"a": [Payload(trap)]}, ["a"], [], []], tmp_path, protocol
    )

    with pytest.raises(DatasetError, match=r"shared\.pkl: the pickle refers to posix\.mkdir"):
        pickles.read(path, spaces["iemocap"])

    assert not trap.exists()
    pickle.loads(path.read_bytes())
    assert trap.exists()


@pytest.mark.parametrize(
    "value",
    [
        [1, 2, 3],
        {"a": 1},
        [{"a": ["M"]}, {"a": [0, 1]}, {"a": ["x"]}, ["a"], [], []],
        [{"a": ["M"]}, {"a": [0]}, {"a": ["x"]}, ["b"], [], []],
    ],
    ids=["numbers", "dictionary", "unequal lengths", "unknown id"],
)
def test_other_values_are_refused(
    value: object, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """With the file's name."""
    with pytest.raises(DatasetError, match=r"shared\.pkl: neither one of the shared pickles"):
        pickles.read(write(value, tmp_path), spaces["iemocap"])


@pytest.mark.parametrize(
    ("who", "emotion", "text", "message"),
    [
        ("M", 6, "x", "emotion is 6, not 0 to 5"),
        ("M", -1, "x", "emotion is -1, not 0 to 5"),
        ("M", True, "x", "emotion is True, not 0 to 5"),
        ("M", "sad", "x", "emotion is 'sad', not 0 to 5"),
        ("M", None, "x", "emotion is None, not 0 to 5"),
        ("X", 0, "x", "speaker is 'X', neither M nor F nor a one-hot row"),
        (["M"], 0, "x", r"speaker is \['M'\], neither"),
        (None, 0, "x", "speaker is None, neither"),
        ([0, 0], 0, "x", r"speaker is \[0, 0\], neither"),
        ([1, 0, 1], 0, "x", r"speaker is \[1, 0, 1\], neither"),
        ("M", 0, 7, "text is 7"),
    ],
)
def test_utterance_that_is_none_is_named(
    who: object,
    emotion: object,
    text: object,
    message: str,
    tmp_path: Path,
    spaces: Mapping[str, LabelSpace],
) -> None:
    """By its dialogue and place there; a label below 0 would be counted from the last."""
    value = [{"a": ["M", who]}, {"a": [0, emotion]}, {"a": ["x", text]}, ["a"], [], []]

    with pytest.raises(
        DatasetError, match=rf"shared\.pkl: dialogue 'a', utterances\[1\]: {message}"
    ):
        pickles.read(write(value, tmp_path), spaces["iemocap"])


@pytest.mark.parametrize("space_name", ["meld", "emorynlp", "unified"])
def test_pickle_of_another_corpus_is_refused(
    space_name: str, tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Its numbers would be labels of another label space."""
    with pytest.raises(DatasetError, match=f"its labels are of iemocap, not of {space_name}"):
        pickles.read(write(IEMOCAP, tmp_path), spaces[space_name])


def test_file_that_is_no_pickle_is_refused(
    tmp_path: Path, spaces: Mapping[str, LabelSpace]
) -> None:
    """Such as a pointer to a large file that was not downloaded."""
    path = tmp_path / "shared.pkl"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")

    with pytest.raises(DatasetError, match="neither one of the shared pickles"):
        pickles.read(path, spaces["iemocap"])


def test_command_writes_a_file_for_each_split(tmp_path: Path) -> None:
    """In the interchange format, which every tool reads."""
    path, out = write(IEMOCAP, tmp_path), tmp_path / "out"

    result = CliRunner().invoke(
        app, ["data", "convert", str(path), "--label-space", "iemocap", "--out", str(out)]
    )

    assert result.exit_code == 0, result.output
    assert [len(list(read_dialogues(out / f"{s}.jsonl"))) for s in pickles.SPLITS] == [1, 1, 1]
    (dialogue,) = read_dialogues(out / "dev.jsonl")
    assert dialogue.utterances == (Utterance("1", "Oh.", "sad"),)
