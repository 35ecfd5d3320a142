"""The record of a run survives being read and written, and says what is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.finetuning.run_record import read_record, write_record
from training.recipe import RecipeError

SHIPPED = Path(__file__).parents[3] / "data" / "adapters" / "erc-mini"


def test_record_is_written_as_it_was_read(adapter: Path, tmp_path: Path) -> None:
    """To the byte."""
    write_record(read_record(adapter), tmp_path)

    written = (tmp_path / "training.json").read_bytes()
    assert written == (adapter / "training.json").read_bytes()
    assert list(json.loads(written)) == [
        *("recipe", "material", "compute", "agreement", "development", "kept", "finished"),
        *("complete", "attention"),
    ]


def test_shipped_record_without_material_stays_without(tmp_path: Path) -> None:
    """But for keys that recipes have come to have, which get their defaults."""
    write_record(read_record(SHIPPED), tmp_path)

    shipped, written = (
        json.loads((folder / "training.json").read_text()) for folder in (SHIPPED, tmp_path)
    )
    assert shipped["recipe"].keys() <= written["recipe"].keys()
    assert [*shipped.items()][1:] == [*written.items()][1:]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda r: r["recipe"].update(colour="red"), "recipe.colour: Extra inputs are not"),
        (lambda r: r["development"][0].pop("scores"), "development.0.scores: Field required"),
        (lambda r: r.update(compute="float8"), "compute: Input should be 'bfloat16' or 'float32'"),
        (lambda r: r.pop("kept"), "kept: Field required"),
        (lambda r: (r.pop("material"), r.update(complete=False)), "material: is missing"),
    ],
    ids=["recipe", "scores", "compute", "kept", "material"],
)
def test_record_of_another_version_is_refused_by_its_key(
    change: Callable[[dict[str, Any]], object], problem: str, adapter: Path, tmp_path: Path
) -> None:
    described = json.loads((adapter / "training.json").read_text())
    change(described)
    (tmp_path / "training.json").write_text(json.dumps(described))

    with pytest.raises(RecipeError) as refused:
        read_record(tmp_path)

    assert f"{tmp_path}: contains a run of another recipe or version: training.json:" in str(
        refused.value
    )
    assert problem in str(refused.value)
    assert "; remove it or choose another folder" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{\n"recipe": ', ": line 2 is not JSON: Expecting value"),
        (b"[]", ""),
        (b'{"\xff": 1}', ""),
    ],
    ids=["half", "list", "not-utf-8"],
)
def test_broken_record_is_named(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "training.json").write_bytes(content)

    with pytest.raises(RecipeError) as refused:
        read_record(tmp_path)

    path = tmp_path / "training.json"
    assert (
        str(refused.value) == f"{path}: is not the record of a run{problem}; choose another folder"
    )
