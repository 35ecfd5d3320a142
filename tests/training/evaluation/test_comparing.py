"""Files of predictions compared on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.evaluation.conftest import MELD
from training.cli import app
from training.evaluation.predictions import Answer, Predictions, write_predictions


def test_models_are_compared_side_by_side(tmp_path: Path) -> None:
    """The first leads, or does not, every other one; the file has every measure."""
    right = Predictions(
        "meld",
        MELD.labels,
        tuple(
            Answer(a.dialogue, a.index, a.gold, (1.0, 0.0) if a.gold == 0 else (0.0, 1.0))
            for a in MELD.answers
        ),
    )
    for name, predictions in (("ours", right), ("theirs", MELD)):
        write_predictions([predictions], tmp_path / f"{name}.jsonl")

    result = CliRunner().invoke(
        app,
        [
            *("compare", str(tmp_path / "ours.jsonl"), str(tmp_path / "theirs.jsonl")),
            *("--out", str(tmp_path / "compared.json")),
        ],
    )

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "meld, 3 utterances"
    assert lines[4].startswith("| ours | 100.00 | 100.0 to 100.0 | 100.00 | 100.00 | 0.000 |")
    assert lines[5].startswith("| theirs | 66.67 |")
    assert lines[7].startswith("ours leads theirs by 33.33 (")
    tables = json.loads((tmp_path / "compared.json").read_text())["meld"]
    assert tables["models"]["theirs"]["confusion"] == [[1, 0], [1, 1]]
    assert tables["leads"]["theirs"]["value"] == pytest.approx(1 / 3)


def test_dailydialog_is_compared_by_micro_f1(tmp_path: Path) -> None:
    """Ours finds an emotion that theirs misses; the neutral ones, which both know, are no help."""

    def answers_with(*labels: int) -> Predictions:
        rows = ((1.0, 0.0), (0.0, 1.0))
        golds = (0, 0, 0, 1, 1)
        answers = (Answer(f"d{n}", 0, golds[n], rows[m]) for n, m in enumerate(labels))
        return Predictions("dailydialog", ("no emotion", "anger"), tuple(answers))

    for name, predictions in (
        ("ours", answers_with(0, 0, 0, 1, 1)),
        ("theirs", answers_with(0, 0, 0, 1, 0)),
    ):
        write_predictions([predictions], tmp_path / f"{name}.jsonl")
    files = [str(tmp_path / f"{name}.jsonl") for name in ("ours", "theirs")]

    result = CliRunner().invoke(app, ["compare", *files, "--out", str(tmp_path / "out.json")])

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[2].startswith("| model | micro F1 without neutral | 95% |")
    assert lines[5].startswith("| theirs | 66.67 |")
    assert lines[7].startswith("ours leads theirs by 33.33 (")
    compared = json.loads((tmp_path / "out.json").read_text())["dailydialog"]
    assert compared["compared_by"] == "micro_f1"
    assert compared["models"]["theirs"]["micro_f1_interval"]["value"] == pytest.approx(2 / 3)
    assert "weighted_f1" in compared["models"]["theirs"]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    """As runs leave them."""
    paths = [tmp_path / folder / "said.jsonl" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        write_predictions([MELD], path)

    result = CliRunner().invoke(app, ["compare", *map(str, paths)])

    assert result.exit_code == 0, result.output
    assert f"{paths[0]} leads {paths[1]} by 0.00" in result.output


def test_files_of_other_utterances_are_refused(tmp_path: Path) -> None:
    """In one line."""
    write_predictions([MELD], tmp_path / "one.jsonl")
    fewer = Predictions("meld", MELD.labels, MELD.answers[:2])
    write_predictions([fewer], tmp_path / "two.jsonl")

    result = CliRunner().invoke(
        app, ["compare", str(tmp_path / "one.jsonl"), str(tmp_path / "two.jsonl")]
    )

    assert result.exit_code == 2
    assert "meld: 3 utterances and 2" in result.output
