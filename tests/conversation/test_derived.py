"""Derived label spaces: exact sums of a trained one's probabilities."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.conversation.derived import derive, load_derived_label_spaces
from service.conversation.labels import LabelSpace, LabelSpaceError, load_label_spaces
from service.conversation.prediction import Prediction

DATA = Path(__file__).parents[2] / "data" / "label_spaces"

UNIFIED = """
name = "unified"
title = "Unified"
labels = [
    { name = "good", verbalizer = "good", unified = "good" },
    { name = "mixed", verbalizer = "mixed", unified = "mixed" },
    { name = "bad", verbalizer = "bad", unified = "bad" },
]
"""
SUMS = """
name = "sums"
title = "Sums"
derived_from = "unified"
labels = [
    { name = "up", of = { good = 1, mixed = 0.49 } },
    { name = "down", of = { bad = 1, mixed = 0.51 } },
]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A label space and sums of its labels."""
    (tmp_path / "unified.toml").write_text(UNIFIED)
    (tmp_path / "sums.toml").write_text(SUMS)
    return tmp_path


def test_every_shipped_label_space_has_sentiments(spaces: Mapping[str, LabelSpace]) -> None:
    """`sentiment` of the default one, and one of each corpus, in the same three words."""
    derived = load_derived_label_spaces(DATA, spaces)

    assert {name: space.source.name for name, space in derived.items()} == {
        "sentiment": "unified",
        **{f"{name}-sentiment": name for name in spaces if name != "unified"},
    }
    assert {space.names for space in derived.values()} == {("positive", "neutral", "negative")}


def test_melds_sentiments_are_those_of_its_column(spaces: Mapping[str, LabelSpace]) -> None:
    """Surprise, which the column has as either, is divided; all others count as a whole."""
    space = load_derived_label_spaces(DATA, spaces)["meld-sentiment"]

    assert {label.name: dict(label.of) for label in space.labels} == {
        "positive": {"joy": 1, "surprise": 0.49},
        "neutral": {"neutral": 1},
        "negative": {"fear": 1, "sadness": 1, "disgust": 1, "anger": 1, "surprise": 0.51},
    }


def test_derived_files_are_no_label_spaces_to_train_on(folder: Path) -> None:
    """A bundle, a corpus and a recipe know only those that have verbalizers."""
    assert list(load_label_spaces(folder)) == ["unified"]


def test_probabilities_are_sums(folder: Path) -> None:
    """Of the source's; the mass that went to the labels is the same."""
    spaces = load_label_spaces(folder)
    sums = load_derived_label_spaces(folder, spaces)["sums"]

    prediction = sums.summed(Prediction(spaces["unified"], (0.25, 0.5, 0.25), 0.9))

    assert prediction.probabilities == pytest.approx(
        (0.25 + 0.49 * 0.5, 0.25 + 0.51 * 0.5), abs=1e-15
    )
    assert (prediction.label.name, prediction.label_mass) == ("down", 0.9)


def test_unified_label_is_that_of_all_that_is_summed(spaces: Mapping[str, LabelSpace]) -> None:
    """Where a sum's labels map to several, it maps to none."""
    space = load_derived_label_spaces(DATA, spaces)["sentiment"]

    assert [label.unified for label in space.labels] == [None, "neutral", None]


def test_labels_are_found_without_regard_to_case(folder: Path) -> None:
    sums = load_derived_label_spaces(folder, load_label_spaces(folder))["sums"]

    assert sums.label("UP").name == "up"
    with pytest.raises(ValueError, match="'good' is not a label of sums: up, down"):
        sums.label("good")


@pytest.mark.parametrize(
    ("changed", "to", "message"),
    [
        ('title = "Sums"', "title = ", "Invalid value"),
        ('title = "Sums"', "", "title is missing"),
        ('title = "Sums"', "title = 3", "title must be text"),
        ('title = "Sums"', 'title = "Sums"\ncolour = "blue"', "unknown keys: colour"),
        ('name = "sums"', 'name = "other"', "name is 'other' but must be that of the file, 'sums'"),
        ('"unified"', '"meld"', "derived_from: 'meld' is not one of unified"),
        ('"unified"', "['unified']", "derived_from: .* is not one of unified"),
        ('"unified"', '"sums"', "derived_from: 'sums' is not one of unified"),
        ("mixed = 0.51", "mixed = 0.5", r"shares of .*'mixed' must add up to 1, got 0\.99"),
        (", mixed = 0.51", "", r"shares of .*'mixed' must add up to 1, got 0\.49"),
        ("{ good = 1, mixed = 0.49 }", "['good', 'mixed']", r"'mixed' must add up to 1, got 1\.51"),
        ("good = 1,", "good = 1, joy = 1,", "'up': 'joy' is not a label of unified: good, mixed"),
        ("good = 1", "good = 1.5", "'up': good: a share must be above 0 and up to 1, got 1.5"),
        ("good = 1", "good = 0", "above 0 and up to 1, got 0.0"),
        ("good = 1", "good = nan", "above 0 and up to 1, got nan"),
        ("good = 1", "good = true", "`of` must be a list of labels or a table of their shares"),
        ("{ good = 1, mixed = 0.49 }", "'good'", "`of` must be a list"),
        ("{ good = 1, mixed = 0.49 }", "[]", "'up': has nothing to sum"),
        ('name = "down"', 'name = "up"', "must have its own name"),
        ('name = "down"', 'name = "Down"', "lower case"),
        ('name = "down"', 'name = " "', "lower case"),
        ('name = "down"', "name = 1", "must have its own name"),
        ('name = "down", of', "of", "must have a name and `of`"),
        (SUMS[SUMS.index("labels") :], "labels = 3", "not iterable"),
        (SUMS[SUMS.index("labels") :], "labels = ['up']", "must have a name and `of`"),
        (SUMS[SUMS.index("labels") :], "", "labels is missing"),
    ],
)
def test_malformed_sums_are_refused(changed: str, to: str, message: str, folder: Path) -> None:
    """The error names the file and what is wrong in it."""
    assert changed in SUMS
    (folder / "sums.toml").write_text(SUMS.replace(changed, to, 1))

    with pytest.raises(LabelSpaceError, match=rf"sums\.toml: .*{message}"):
        load_derived_label_spaces(folder, load_label_spaces(folder))


def test_sums_of_fewer_than_two_labels_are_refused(spaces: Mapping[str, LabelSpace]) -> None:
    whole = dict.fromkeys(spaces["meld"].names, 1.0)

    with pytest.raises(LabelSpaceError, match="two or more labels"):
        derive("all", "All", spaces["meld"], {"all": whole})
