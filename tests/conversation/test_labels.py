"""Shipped label spaces are InstructERC's and one in their manner; malformed ones are refused."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.conversation.labels import LabelSpace, UnknownLabel, load_label_spaces

# Name, verbalizer, unified label, in the order of the published prompts' label statements. The
# verbalizers are those of the published data; the mapping is that of the published code.
PUBLISHED = {
    "iemocap": [
        ("happy", "happy", "joyful"),
        ("sad", "sad", "sad"),
        ("neutral", "neutral", "neutral"),
        ("angry", "angry", "mad"),
        ("excited", "excited", "excited"),
        ("frustrated", "frustrated", "fear"),
    ],
    "meld": [
        ("neutral", "neutral", "neutral"),
        ("surprise", "surprise", "powerful"),
        ("fear", "fear", "fear"),
        ("sadness", "sad", "sad"),
        ("joy", "joyful", "joyful"),
        ("disgust", "disgust", "disgust"),
        ("anger", "angry", "mad"),
    ],
    "emorynlp": [
        ("joyful", "Joyful", "joyful"),
        ("mad", "Mad", "mad"),
        ("peaceful", "Peaceful", "peaceful"),
        ("neutral", "Neutral", "neutral"),
        ("sad", "Sad", "sad"),
        ("powerful", "Powerful", "powerful"),
        ("scared", "Scared", "fear"),
    ],
    "unified": [
        (name, name, name)
        for name in (
            "joyful", "sad", "neutral", "mad", "excited", "fear", "disgust", "peaceful", "powerful",
        )
    ],
}  # fmt: skip

# In the same manner: the published prompts know no DailyDialog.
OURS = {
    "dailydialog": [
        ("no emotion", "neutral", "neutral"),
        ("anger", "angry", "mad"),
        ("disgust", "disgust", "disgust"),
        ("fear", "fear", "fear"),
        ("happiness", "happy", "joyful"),
        ("sadness", "sad", "sad"),
        ("surprise", "surprise", "powerful"),
    ],
}
SHIPPED = PUBLISHED | OURS

UNIFIED = """
name = "unified"
title = "Unified"
labels = [
    { name = "good", verbalizer = "good", unified = "good" },
    { name = "bad", verbalizer = "bad", unified = "bad" },
]
"""
MINE = """
name = "mine"
title = "Mine"
labels = [
    { name = "up", verbalizer = "up", unified = "good" },
    { name = "down", verbalizer = "down", unified = "bad" },
]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two label spaces of our own, `unified` and `mine`."""
    (tmp_path / "unified.toml").write_text(UNIFIED)
    (tmp_path / "mine.toml").write_text(MINE)
    return tmp_path


def test_shipped_label_spaces_are_the_published_ones_and_ours(
    spaces: Mapping[str, LabelSpace],
) -> None:
    """Names, verbalizers, unified labels and their order; another order is another prompt."""
    labels_of = {
        space.name: [(label.name, label.verbalizer, label.unified) for label in space.labels]
        for space in spaces.values()
    }

    assert labels_of == SHIPPED


def test_label_space_is_found_by_its_own_name(spaces: Mapping[str, LabelSpace]) -> None:
    assert {name: space.name for name, space in spaces.items()} == {n: n for n in SHIPPED}


@pytest.mark.parametrize("written", ["sadness", "Sadness", "SADNESS"])
def test_label_is_found_without_regard_to_case(
    written: str, spaces: Mapping[str, LabelSpace]
) -> None:
    """MELD's files write it in small letters, EmoryNLP's capitalise theirs."""
    assert spaces["meld"].label(written).name == "sadness"


@pytest.mark.parametrize("written", ["sad", "sadness ", "", "joyful", "neutral, sadness"])
def test_other_words_are_no_labels(written: str, spaces: Mapping[str, LabelSpace]) -> None:
    """A verbalizer is not a name; the error lists the names."""
    with pytest.raises(
        UnknownLabel, match="not a label of meld: neutral, surprise, fear, sadness, joy, disgust"
    ):
        spaces["meld"].label(written)


def test_own_label_space_is_a_file_in_the_folder(folder: Path) -> None:
    """Nothing else has to know of it; other files are left alone."""
    (folder / "README.md").write_text("notes")

    spaces = load_label_spaces(folder)

    assert list(spaces) == ["mine", "unified"]
    assert spaces["mine"].names == ("up", "down")
    assert spaces["mine"].title == "Mine"


@pytest.mark.parametrize(
    ("changed", "to", "message"),
    [
        ('title = "Mine"', "title = ", "Invalid value"),
        ('title = "Mine"', "", "title is missing"),
        ('name = "mine"', 'name = "yours"', "name is 'yours' but must be that of the file, 'mine'"),
        ('unified = "bad"', 'unified = "worse"', "down: 'worse' is not a label of unified"),
        ('unified = "bad"', "unified = 3", "needs a unified, got"),
        (', unified = "bad"', "", "unified"),
        ('unified = "bad"', 'unified = "bad", colour = "blue"', "colour"),
        ('name = "down"', 'name = "up"', "must have its own name"),
        ('name = "down"', 'name = ""', "needs a name, got"),
        ('name = "down"', "name = 1", "needs a name, got"),
        ('name = "down"', 'name = "Down"', "lower case"),
        ('verbalizer = "down"', 'verbalizer = "up"', "must have its own verbalizer"),
        ('verbalizer = "down"', 'verbalizer = " "', "needs a verbalizer, got"),
        ('verbalizer = "down"', "verbalizer = ['d']", "needs a verbalizer, got"),
        (
            '    { name = "down", verbalizer = "down", unified = "bad" },\n',
            "",
            "two or more labels",
        ),
        (MINE[MINE.index("labels") :], 'labels = ["up", "down"]', "must be a mapping"),
        (MINE[MINE.index("labels") :], "labels = 3", "not iterable"),
        (MINE[MINE.index("labels") :], "", "labels is missing"),
    ],
)
def test_malformed_label_space_is_refused(
    changed: str, to: str, message: str, folder: Path
) -> None:
    """The error names the file and what is wrong in it."""
    assert changed in MINE
    (folder / "mine.toml").write_text(MINE.replace(changed, to, 1))

    with pytest.raises(ValueError, match=rf"mine\.toml: .*{message}"):
        load_label_spaces(folder)


def test_label_space_that_is_not_utf_8_is_refused(folder: Path) -> None:
    (folder / "mine.toml").write_bytes(MINE.replace("Mine", "Mïne").encode("latin-1"))

    with pytest.raises(ValueError, match=r"mine\.toml: .*utf-8"):
        load_label_spaces(folder)


def test_folder_without_unified_labels_is_refused(tmp_path: Path) -> None:
    """Every label maps to one of them."""
    (tmp_path / "mine.toml").write_text(MINE)

    with pytest.raises(ValueError, match=r"has no unified\.toml"):
        load_label_spaces(tmp_path)
