"""The first look at a GPU, taken on this machine at small sizes."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.bench import try_gpu
from tests.bench.try_gpu import STEPS, Done, Trial, app, in_words, run_steps


def test_every_step_runs_and_is_in_the_table(tmp_path: Path) -> None:
    """Labels are transformers', of the shipped model and of random weights; the file has it all."""
    out = tmp_path / "results.json"

    ended = CliRunner().invoke(app, ["--tiny", "--minutes", "20", "--out", str(out)])

    assert ended.exit_code == 0, ended.output
    written = json.loads(out.read_text())
    steps = {name: step["result"] for name, step in written["steps"].items()}
    assert list(steps) == list(STEPS)
    for name in ("erc-mini: engine", "7B shape: engine"):
        found = steps[name]
        assert found["labels"] > 20
        assert found["equal_labels"] >= 0.95
        assert found["worst_probability"] < 0.06
        assert 0 < found["operations_per_second"] < steps["matrix rate"]["operations_per_second"]
    assert steps["7B shape: training"]["tokens_per_second"] > 0
    assert steps["7B shape: shared rows"]["dense"]["examples_per_second"] > 0
    for name in ("erc-mini: service", "7B shape: service"):
        assert steps[name]["utterances_per_second"] > 0
        assert steps[name]["rejects"] == 0
    assert all(f"| {name} |" in ended.output for name in STEPS)
    assert "% of the matrix rate" in ended.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="would take minutes")
def test_without_a_gpu_it_is_refused() -> None:
    ended = CliRunner().invoke(app, [])

    assert ended.exit_code == 2
    assert ended.stderr == "try_gpu: there is no GPU here; --tiny takes the steps on a CPU\n"


def test_a_step_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the end of what it printed, and nothing of the step before."""
    steps = {name: STEPS[name] for name in ("matrix rate", "installation", "7B shape: engine")}
    monkeypatch.setattr(try_gpu, "STEPS", steps)

    found = run_steps(Trial(tmp_path, True, 0.0), float("inf"), lambda _: None)

    assert found["matrix rate"].result is not None
    assert found["installation"].result is not None
    assert found["7B shape: engine"].result is None  # that shape has not been written
    assert "there is no such folder" in in_words(found["7B shape: engine"], 1.0)


def test_what_there_is_no_time_for_is_said(tmp_path: Path) -> None:
    found = run_steps(Trial(tmp_path, True, 0.0), 0.0, lambda _: None)

    assert {done.error for done in found.values()} == {"no time was left"}


def test_ways_to_share_rows_are_side_by_side() -> None:
    ways = {
        "dense": {"row_tokens": 448, "examples_per_second": 50.0, "examples": 10, "computed": 350},
        "blocks": {"row_tokens": 2048, "examples_per_second": 70, "examples": 10, "computed": 230},
    }

    assert in_words(Done(3.0, ways), 8e14) == (
        "rows of 448: 50.0 examples/s, 35 positions each; "
        "rows of 2,048: 70.0 examples/s, 23 positions each"
    )


def test_shares_are_of_the_measured_rate() -> None:
    done = Done(3.0, {"utterances_per_second": 1234.5, "operations_per_second": 2e14})

    assert in_words(done, 8e14) == "1,234.5 utterances/s; 200.00 TFLOP/s, 25.0% of the matrix rate"
