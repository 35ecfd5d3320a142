"""What is read of YAML, and what is said of keys that are given twice."""

from pathlib import Path

import pytest

from training.recipe import RecipeError
from training.recipe_files import load_recipe, load_runs
from training.yaml_files import read_yaml


def read(text: str, tmp_path: Path) -> object:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path, ValueError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nname: a\nseed: 2\n", "3: 'seed' is also on line 1; keep one of them"),
        ("a:\n  b: 1\n  'b': 2\n", "3: 'b' is also on line 2"),
        ("- {a: 1,\n   c: 2,\n   a: 1}\n", "3: 'a' is also on line 1"),
        ("1: a\n0x1: b\n", "2: 1 is also on line 1"),
        ("<<: {a: 1}\n<<: {b: 1}\n", "2: '<<' is also on line 1"),
        ("a: |\n  x\n  y\nb: 1\na: 2\n", "5: 'a' is also on line 1"),
    ],
)
def test_key_given_twice_is_refused_with_both_lines(
    text: str, message: str, tmp_path: Path
) -> None:
    """At any depth and however it is written; in different mappings a key may come again."""
    with pytest.raises(ValueError, match=rf"mine\.yaml:{message}"):
        read(text, tmp_path)

    assert read("a: {b: 1}\nc: {b: 1}\n", tmp_path) == {"a": {"b": 1}, "c": {"b": 1}}


def test_merged_keys_are_no_keys_given_twice(tmp_path: Path) -> None:
    """A mapping says otherwise than the one it takes in, however deep either stands."""
    text = "b: &b {x: 1, z: 2}\nlist:\n- d: &a {<<: *b, x: 3}\ne: {<<: [*a, *b], z: 4}\n"

    assert read(text, tmp_path) == {
        "b": {"x": 1, "z": 2},
        "list": [{"d": {"x": 3, "z": 2}}],
        "e": {"x": 3, "z": 4},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,\n", "not YAML: .* on line 2"),
        ("a: 1\n? [1, 2]\n: 3\n", "not YAML: found unhashable key on line 2"),
        ("a: 2020-13-45\n", "not YAML: month must be"),
        ("[" * 5000, "not YAML: maximum recursion depth"),
    ],
    ids=["broken", "list-as-key", "no-date", "too-deep"],
)
def test_what_is_not_yaml_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """On one line, with the file."""
    with pytest.raises(ValueError, match=rf"mine\.yaml: {message}") as refused:
        read(text, tmp_path)

    assert "\n" not in str(refused.value)


def test_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    assert read("\ufeffa: 1\n", tmp_path) == {"a": 1}


def test_recipe_with_a_key_twice_is_refused(recipe_file: Path, tmp_path: Path) -> None:
    """In the file itself, in what it extends, and of an experiment."""
    whole = recipe_file.read_text(encoding="utf-8").rstrip("\n")
    lines = whole.count("\n") + 1
    (tmp_path / "twice.yaml").write_text(f"{whole}\nseed: 8\n", encoding="utf-8")
    (tmp_path / "other.yaml").write_text("extends: twice.yaml\nname: other\n", encoding="utf-8")
    message = rf"twice\.yaml:{lines + 1}: 'seed' is also on line \d+"

    for name in ("twice", "other"):
        with pytest.raises(RecipeError, match=message):
            load_recipe(tmp_path / f"{name}.yaml")
        with pytest.raises(RecipeError, match=message):
            load_runs(tmp_path / f"{name}.yaml")
