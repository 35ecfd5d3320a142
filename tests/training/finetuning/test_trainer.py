"""A run that is killed goes on where its last checkpoint was, to the same weights."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from training.finetuning.packed_loss import packed_loss
from training.finetuning.packing import collate, pack
from training.finetuning.trainer import last_checkpoint
from training.mixture.sources import Sources
from training.mixture.tasks import main_task, prompt_settings
from training.recipe_files import load_recipe

WEIGHTS = "adapter_model.safetensors"
EPOCHS = 20


@pytest.fixture(scope="module")
def recipe(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run with enough steps to be killed in."""
    longer = yaml.safe_load(recipe_file.read_text())
    longer["stages"][1] |= {"epochs": EPOCHS, "average": 0.7}
    path = tmp_path_factory.mktemp("recipes") / "longer.yaml"
    path.write_text(yaml.safe_dump(longer))
    return path


def command(recipe: Path, sources: Sources, base: Path, out: Path) -> list[str]:
    return [
        *("-m", "training.cli", "train", str(recipe), "--save-every", "2"),
        *("--data", str(sources.data), "--base", str(base), "--out", str(out)),
    ]


def run(arguments: list[str]) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stderr


# Runs a module and kills it as soon as a file is there: whoever did so from outside would be late
# on a machine that stands still.
KILLED = """
import os, runpy, signal, sys, threading, time
from pathlib import Path

checkpoint, module = Path(sys.argv.pop(1)), sys.argv.pop(1)

def watch():
    while not checkpoint.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=watch, daemon=True).start()
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def kill_when(arguments: list[str], checkpoint: Path) -> None:
    """Start a run that is killed without warning once it has a checkpoint."""
    module, *options = arguments[1:]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(checkpoint), module, *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-3000:]


@pytest.fixture(scope="module")
def uninterrupted(
    recipe: Path, sources: Sources, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    run(command(recipe, sources, tiny_base, folder))
    return folder


def record(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return document


def test_killed_run_ends_as_if_it_had_not_been(
    uninterrupted: Path, recipe: Path, sources: Sources, tiny_base: Path, tmp_path: Path
) -> None:
    """Weights, their mean and scores, bit for bit, after two kills in its second stage."""
    arguments = command(recipe, sources, tiny_base, tmp_path / "killed")
    for step in (6, 14):
        kill_when(arguments, tmp_path / f"killed/checkpoints/second/checkpoint-{step}")
    log_text = run(arguments)

    assert "stage second: resumes from checkpoint-" in log_text
    assert "stage first:" not in log_text
    one, other = (load_file(f / WEIGHTS) for f in (uninterrupted, tmp_path / "killed"))
    assert all(one[name].equal(other[name]) for name in one.keys() | other.keys())
    assert record(tmp_path / "killed") == record(uninterrupted)


def test_finished_run_is_left_alone_and_keeps_no_checkpoints(
    uninterrupted: Path, recipe: Path, sources: Sources, tiny_base: Path
) -> None:
    """Started again it says so."""
    before = (uninterrupted / WEIGHTS).stat().st_mtime_ns

    log_text = run(command(recipe, sources, tiny_base, uninterrupted))

    assert "is already trained" in log_text
    assert (uninterrupted / WEIGHTS).stat().st_mtime_ns == before
    assert sorted(path.name for path in uninterrupted.iterdir()) == [
        *("adapter_config.json", WEIGHTS, "bundle.json", "logs", "training.json"),
    ]


def test_losses_and_development_scores_are_there_for_tensorboard(uninterrupted: Path) -> None:
    (events,) = (uninterrupted / "logs" / "second").iterdir()

    written = events.read_bytes()
    for name in (b"train/train_loss", b"development/meld/with_demonstrations"):
        assert name in written


def test_another_recipe_does_not_go_on_in_the_same_folder(
    uninterrupted: Path, recipe: Path, sources: Sources, tiny_base: Path, tmp_path: Path
) -> None:
    """It would be half of each."""
    changed = yaml.safe_load(recipe.read_text()) | {"seed": 8}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(changed))

    ended = subprocess.run(
        [sys.executable, *command(other, sources, tiny_base, uninterrupted)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "contains a run of another recipe" in ended.stderr


def test_two_processes_share_the_steps(
    uninterrupted: Path, recipe: Path, sources: Sources, tiny_base: Path, tmp_path: Path
) -> None:
    """As `torchrun` starts them; one of them writes, and the model has learned as much.

    In half the steps, each of twice the batches: the weights differ, what they are worth does not.
    """
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    run([*torchrun, *command(recipe, sources, tiny_base, tmp_path / "two")])

    alone, together = record(uninterrupted), record(tmp_path / "two")
    assert together["development"][-1]["epoch"] == EPOCHS
    assert together["agreement"] == alone["agreement"]
    one, other = (load_file(f / WEIGHTS) for f in (uninterrupted, tmp_path / "two"))
    assert one.keys() == other.keys()
    assert all(weights.isfinite().all() for weights in other.values())
    before, by_one, by_two = (
        loss(folder, recipe, sources, tiny_base)
        for folder in (None, uninterrupted, tmp_path / "two")
    )
    assert max(by_one, by_two) < 0.8 * before
    assert abs(by_two - by_one) < 0.15 * before


def loss(adapter: Path | None, recipe: Path, sources: Sources, base: Path) -> float:
    """Of the base, or with an adapter, on the targets of the dialogues that were trained."""
    described = load_recipe(recipe)
    settings = prompt_settings(described, base)
    (corpus,) = sources.corpora(described.stages[1].corpora)
    examples = [
        labelled.example
        for dialogue in corpus.dialogues
        for labelled in main_task(dialogue, corpus.label_space, settings, {})
    ]
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, str(adapter)).get_base_model()
    with torch.no_grad():
        batch = collate(list(pack(examples, 448)))
        return float(packed_loss(model.eval(), model, batch, {"main": 1.0}))


def test_checkpoint_that_was_not_written_to_its_end_does_not_count(tmp_path: Path) -> None:
    """A kill may come while one is written: its state, which comes last, is missing."""
    for step in (10, 9, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-9" / "trainer_state.json").write_text("{}")

    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    assert not (tmp_path / "checkpoint-10").exists()


def test_stage_that_was_not_begun_has_no_checkpoint(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "none") is None
