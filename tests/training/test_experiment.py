"""An experiment, whole: from a recipe file to a table, through the parts that serve."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.decoding.bundle import read_bundle
from tests.broken_folders import changed, linked
from training.evaluation.predictions import Answer, Predictions, read_predictions, write_predictions
from training.experiment import (
    Options,
    demonstrations_shown,
    launcher,
    results,
    results_tables,
    shares_of_cores,
)
from training.finetuning.minilm import MINILM_CAUSAL
from training.mixture.sources import Sources
from training.recipe import Demonstrations
from training.recipe_files import load_recipe

STAGE = {
    "name": "only",
    "corpora": [{"format": "jsonl", "path": "talks.jsonl", "label_space": "meld"}],
    "tasks": {"main": 1, "prediction": 0.1},
    "demonstrations": {"count": 1, "share": 1},
    "epochs": 1,
    "learning_rate": 1e-4,
    "tokens_per_batch": 448,
}
HELD_OUT = [{"format": "jsonl", "path": "held_out.jsonl", "label_space": "meld"}]


@pytest.fixture
def experiment(recipe_file: Path, tmp_path: Path) -> Path:
    """The shipped model's base, a step or two, one run of two."""
    described: dict[str, Any] = yaml.safe_load(recipe_file.read_text()) | {
        "name": "trial",
        "base": MINILM_CAUSAL,
        "label_spaces": ["meld"],
        "stages": [STAGE],
        "development": HELD_OUT,
        "test": HELD_OUT,
        "vary": {"rate": {"slow": {}, "fast": {"stages": {"only": {"learning_rate": 1e-3}}}}},
    }
    path = tmp_path / "trial.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training.cli", "run", *arguments],
        capture_output=True,
        text=True,
        check=False,
        # Which demonstrations are shown is the recipe's to say.
        env=os.environ
        | {"TOKENIZERS_PARALLELISM": "false", "ERC_DEMONSTRATIONS__FILE": "nowhere.jsonl"},
    )


def test_run_is_trained_merged_and_scored_once(
    experiment: Path, sources: Sources, tmp_path: Path
) -> None:
    """Each step leaves its result; started again, nothing is done that is done.

    Accelerate may start the training, as its configuration says.

    What is shown is of the training split, balanced: an utterance of each of MELD's seven labels.
    """
    out = tmp_path / "runs"
    options = ["--data", str(sources.data), "--out", str(out), "--only", "trial-fast"]

    launch = tmp_path / "launch.yaml"
    launch.write_text("{compute_environment: LOCAL_MACHINE, distributed_type: 'NO', use_cpu: true}")
    ended = run(str(experiment), *options, "--seed", "3", "--launch", str(launch))
    assert ended.returncode == 0, ended.stderr[-3000:]

    folder = out / "trial-fast@3"
    bundle = read_bundle(folder / "bundle")
    assert bundle.tasks == ("main", "prediction")
    assert bundle.label_spaces["meld"].development["utterances"] == 3
    forecasts = bundle.label_spaces["meld"].forecasts
    assert forecasts is not None
    assert forecasts.development["utterances"] == 2
    assert len(read_predictions(folder / "forecasts.jsonl")["meld"].answers) == 2
    answers = read_predictions(folder / "development.jsonl")["meld"].answers
    assert [len(answer.demonstrations) for answer in answers] == [1, 1, 1]
    assert "demonstrations: 7 indexed" in ended.stderr
    scores = json.loads((out / "results.json").read_text())
    score = scores["development, meld"]["trial-fast"]["weighted_f1"]
    assert score["seeds"].keys() == {"3"}
    assert f"| trial-fast | {score['mean']:.2f} |" in ended.stdout
    assert "forecasts, meld" in scores
    # Test is read when it is asked for, and no other step is done again.
    assert not (folder / "test.jsonl").exists()
    before = (folder / "bundle" / "model.safetensors").stat().st_mtime_ns
    again = run(str(experiment), *options, "--seed", "3", "--test")
    assert again.returncode == 0, again.stderr[-3000:]
    assert (folder / "bundle" / "model.safetensors").stat().st_mtime_ns == before
    assert (folder / "test.jsonl").exists()
    assert "test, meld" in json.loads((out / "results.json").read_text())


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        ({"count": 1, "share": 1}, ["--demonstrations-file", "own.jsonl"]),
        ({"count": 1, "share": 0.5, "pools": ["train", "shipped"]}, []),
        ({"count": 1, "share": 0}, ["--no-demonstrations"]),
        ({"count": 0, "share": 1}, ["--no-demonstrations"]),
    ],
)
def test_model_is_shown_what_its_last_stage_showed(
    shown: dict[str, Any], options: list[str], recipe_file: Path
) -> None:
    """Of its training split, those that ship, or nothing; as also a base that was not trained."""
    recipe = load_recipe(recipe_file)
    last = recipe.stages[1].model_copy(update={"demonstrations": Demonstrations(**shown)})
    changed = recipe.model_copy(update={"stages": (recipe.stages[0], last)})
    base = recipe.model_copy(update={"stages": ()})

    assert demonstrations_shown(changed, Path("own.jsonl")) == options
    assert demonstrations_shown(base, Path("own.jsonl")) == ["--no-demonstrations"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, []),
        ({"processes": 1}, []),
        ({"processes": 4}, ["torch.distributed.run", "--standalone", "--nproc-per-node=4"]),
        ({"launch": "l.yaml"}, ["accelerate.commands.launch", "--config_file", "l.yaml"]),
        (
            {"launch": "l.yaml", "processes": 4, "jobs": 2},
            [
                *("accelerate.commands.launch", "--config_file", "l.yaml"),
                *("--num_processes", "4", "--main_process_port", "0"),
            ],
        ),
    ],
)
def test_processes_that_train_together_are_started_as_asked(
    options: dict[str, Any], expected: list[str]
) -> None:
    """By torch, or by accelerate, whose configuration may say how many."""
    command = launcher(Options(Path("data"), None, Path("out"), **options))

    assert command == (["-m", *expected] if expected else [])


def test_runs_at_the_same_time_have_cores_of_their_own() -> None:
    """All of them together; more runs than cores share."""
    cores = os.sched_getaffinity(0)
    for jobs in (1, 2, len(cores) + 1):
        queue = shares_of_cores(jobs)
        shares = [set(queue.get_nowait()) for _ in range(jobs)]
        assert set.union(*shares) == cores
        assert all(shares)
        if jobs <= len(cores):
            assert sum(map(len, shares)) == len(cores)


def test_failing_run_among_several_is_named_with_its_log(
    experiment: Path, sources: Sources, tiny_base: Path, tmp_path: Path
) -> None:
    """What it printed is in a file, for the terminal would mix it with what others print."""
    out, base = tmp_path / "runs", linked(tiny_base, tmp_path / "base")
    changed("config.json", model_type="telepathy")(base)

    ended = run(
        *(str(experiment), "--data", str(sources.data), "--base", str(base)),
        *("--out", str(out), "--jobs", "2"),
    )

    assert ended.returncode == 2
    log = out / "trial-slow@7" / "log.txt"
    assert f"train exited with status 2, see {log}" in ended.stderr.replace("fast", "slow")
    assert f"{base}/config.json: transformers has no causal language model" in log.read_text()


def test_run_that_the_recipe_does_not_have_is_named(
    experiment: Path, sources: Sources, tmp_path: Path
) -> None:
    ended = run(
        *(str(experiment), "--data", str(sources.data), "--out", str(tmp_path / "runs")),
        *("--only", "trial-faster"),
    )

    assert ended.returncode == 2
    assert "has no run trial-faster; its runs are trial-slow, trial-fast" in ended.stderr


def test_runs_learn_from_the_teacher_that_is_named(
    sources: Sources, recipe_file: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """It is looked at before anything is trained."""
    described = yaml.safe_load(recipe_file.read_text())
    described["stages"][0]["pseudo_labels"] = {"bundle": "larger"}
    recipe = tmp_path / "taught.yaml"
    recipe.write_text(yaml.safe_dump(described, sort_keys=False))
    options = [str(recipe), "--data", str(sources.data), "--base", str(tiny_base)]

    without = run(*options, "--out", str(tmp_path / "without"))
    missing = run(*options, "--out", str(tmp_path / "with"), "--teacher", str(tmp_path / "none"))

    assert (without.returncode, missing.returncode) == (2, 2)
    assert "pseudo_labels: bundle: larger: name its folder with --teacher" in without.stderr
    assert f"{tmp_path / 'none'}" in missing.stderr


def test_base_that_cannot_be_built_here_has_to_be_named(
    experiment: Path, sources: Sources, tmp_path: Path
) -> None:
    """A model of others is downloaded by who may have it."""
    text = experiment.read_text().replace(MINILM_CAUSAL, "meta-llama/Llama-2-7b-hf")
    experiment.write_text(text)

    ended = run(str(experiment), "--data", str(sources.data), "--out", str(tmp_path / "runs"))

    assert ended.returncode == 2
    assert "download its base meta-llama/Llama-2-7b-hf and name the folder" in ended.stderr


def test_one_folder_is_not_the_base_of_runs_of_several(sources: Sources, tmp_path: Path) -> None:
    """Every model but one would be another than its run says."""
    ended = run(
        *("instructerc-bases", "--base", str(tmp_path), "--data", str(sources.data)),
        *("--out", str(tmp_path / "runs")),
    )

    assert ended.returncode == 2
    bases = "Qwen/Qwen3-0.6B-Base, THUDM/chatglm2-6b, bigscience/bloom-560m, "
    assert f"--base names one folder, but the runs have the bases {bases}" in ended.stderr
    assert ended.stderr.endswith(": choose with --only\n")
    assert not (tmp_path / "runs").exists()


def test_seeds_of_a_run_are_summed_up(recipe_file: Path, tmp_path: Path) -> None:
    """Mean and standard deviation of each measure; runs that are not done are left out."""
    # All are said to be neutral; then all but one are right, and all with less certainty.
    for seed, right, certainty in ((1, {0}, 1.0), (2, {0, 1, 3}, 0.8)):
        answers = tuple(
            Answer("d", index, gold, _certain(gold if index in right else 0, certainty))
            for index, gold in enumerate((0, 1, 1, 2))
        )
        folder = tmp_path / f"tiny@{seed}"
        folder.mkdir()
        write_predictions(
            [Predictions("meld", ("neutral", "joy", "anger"), answers)],
            folder / "development.jsonl",
        )
    recipe = load_recipe(recipe_file)
    options = Options(tmp_path, None, tmp_path)
    (tmp_path / "another@9").mkdir()
    shutil.copy(tmp_path / "tiny@1" / "development.jsonl", tmp_path / "another@9")

    scores = results({"tiny": recipe}, options)

    assert list(scores["development, meld"]) == ["tiny", "another"]
    one = scores["development, meld"]["tiny"]
    # By hand: F1 of neutral, joy, anger is 2/5, 0, 0, then 2/3, 2/3, 1, of 1, 2, 1 utterances; the
    # squared distance of a wrong answer is 2, then 0.8**2 + 0.9**2 + 0.1**2, of a right one 0.06.
    assert one["weighted_f1"] == summary(10.0, 75.0)
    assert one["macro_f1"] == summary(100 * 2 / 15, 100 * 7 / 9)
    assert one["micro_f1"] == summary(0.0, 80.0)
    assert one["accuracy"] == summary(25.0, 75.0)
    assert one["brier"] == summary(1.5, (3 * 0.06 + 1.46) / 4)
    row = "| tiny | 42.50 ± 45.96 | 45.56 ± 45.57 | 40.00 ± 56.57 | 50.00 ± 35.36 |"
    assert f"{row} 0.955 ± 0.771 | 1, 2 |" in results_tables(scores)


def _certain(place: int, certainty: float) -> tuple[float, ...]:
    """Of three labels, one with a certainty and the others alike."""
    rest = (1 - certainty) / 2
    return tuple(certainty if place == other else rest for other in range(3))


def summary(first: float, second: float) -> dict[str, Any]:
    """What is kept of the scores of seeds 1 and 2."""
    return {
        "seeds": {"1": pytest.approx(first, abs=1e-4), "2": pytest.approx(second, abs=1e-4)},
        "mean": pytest.approx((first + second) / 2, abs=1e-4),
        "deviation": pytest.approx(abs(first - second) / 2**0.5, abs=1e-4),
    }
