"""Runs an experiment: every run of a recipe file trained, merged and scored, one after another.

Each run has a folder, in which each step leaves its result; a step whose result is there is not
done again, so that an experiment that was stopped goes on where it was.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml

from service.conversation.labels import load_label_spaces
from service.decoding.bundle import FILE
from service.files import check_filled, is_unfinished, written_whole
from service.outputs import check_begun, check_file
from service.settings import load_settings
from training.datasets.reading import check_there, read_corpus
from training.evaluation.metrics import TITLES, Metrics, measure
from training.evaluation.predictions import DEVELOPMENT, FORECASTS, OF_RUNS, TEST, read_predictions
from training.evaluation.questions import check_labelled
from training.evaluation.seeds import model_and_seed, spread
from training.finetuning.bases import BUILT_HERE, build_base
from training.finetuning.model_inspection import look_at_base
from training.finetuning.run_record import FILE as RECORD
from training.mixture.pools import SHIPPED_POOL
from training.recipe import CorpusFile, Recipe, RecipeError, is_one_run
from training.recipe_files import load_recipe

log = logging.getLogger(__name__)

RESULTS = "results.json"
_RECIPE, _TRAINED, _BUNDLE = "recipe.yaml", "trained", "bundle"
_STAGES, _LOG = "stages", "log.txt"
_DEMONSTRATIONS = "demonstrations.jsonl"
# By their names in `Metrics`; all but the last are shares, given in percent.
_HEADINGS = {**TITLES, "brier": "Brier score"}


class ExperimentError(ValueError):
    """A step of a run failed; the message names the run and the step."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an experiment.

    Attributes:
        data: the folder that corpus paths begin at.
        base: the base's folder; None: one that can be built here, in `out`.
        out: gets a folder for each run.
        seeds: each run is done once with each; empty: with its recipe's own.
        processes: that train one run together; None: as `launch` says, or one.
        launch: a configuration of `accelerate launch`, which starts them.
        jobs: runs that are done at the same time; what they print goes to a file in their folders.
        compiled: whether the models' layers are compiled for training.
        test: whether the test splits are read, which is done once.
        teacher: the bundle that recipes learn from which name one.
    """

    data: Path
    base: Path | None
    out: Path
    seeds: Sequence[int] = ()
    processes: int | None = None
    launch: Path | None = None
    jobs: int = 1
    compiled: bool = False
    test: bool = False
    teacher: Path | None = None


def run_experiment(recipes: Mapping[str, Recipe], options: Options) -> dict[str, Any]:
    """Do every run, and write what came of them as `results.json`.

    Returns:
        By split and label space, for each recipe and measure what each seed scored, with the mean
        and the standard deviation of the seeds: F1 and accuracy in percent, and the Brier score
        from 0, the best, to 2 (see `training.evaluation.metrics.Metrics`).

    Raises:
        DatasetError: corpus files are missing, or a test split is to be scored and has no labels.
        ExperimentError: a step failed.
        OutputError: the folder cannot be written, or holds other things of the same names.
        ModelFolderError: a base cannot be loaded.
        ValueError: a base that cannot be built here, and no folder of one.
    """
    seeded = [
        (recipe.model_copy(update={"seed": seed}), _folder(name, seed, options))
        for name, recipe in recipes.items()
        for seed in options.seeds or (recipe.seed,)
    ]
    _check_corpora(recipes.values(), options)
    _check_out(seeded, options.out)
    runs = [(recipe, _base(recipe, options), folder) for recipe, folder in seeded]
    for base in {base for _, base, _ in runs}:
        look_at_base(base)
    cores = shares_of_cores(options.jobs)
    # A thread's cores are those of the processes that it starts.
    with ThreadPoolExecutor(
        options.jobs, initializer=lambda: os.sched_setaffinity(0, cores.get())
    ) as pool:
        begun = [
            pool.submit(one_run, recipe, base, folder, options) for recipe, base, folder in runs
        ]
        try:
            for run in as_completed(begun):
                run.result()
        finally:  # after a failure, those that have not begun are left
            pool.shutdown(wait=True, cancel_futures=True)
    scores = results(recipes, options)
    with written_whole(options.out / RESULTS) as file:
        file.write(json.dumps(scores, indent=1) + "\n")
    return scores


def _check_corpora(recipes: Collection[Recipe], options: Options) -> None:
    """See that all corpora are there, and that test splits can be scored, before a run is begun.

    Raises:
        DatasetError: files are missing, or a test split that is to be scored has no labels.
    """
    files = dict.fromkeys(file for recipe in recipes for file in recipe.corpora())
    tests = dict.fromkeys(file for r in recipes for file in r.test) if options.test else {}
    check_there(options.data / file.path for file in (*files, *tests))
    if tests:
        spaces = load_label_spaces(load_settings().data / "label_spaces")
        for file in tests:
            path = options.data / file.path
            check_labelled(read_corpus(file.format, path, spaces, file.label_space))


def _check_out(runs: Sequence[tuple[Recipe, Path]], out: Path) -> None:
    """See that an experiment may be written into a folder, and make it.

    Raises:
        OutputError: it cannot be written, or what an experiment writes is there, of other origin.
    """
    check_filled(out)
    out.mkdir(parents=True, exist_ok=True)
    if not _is_results(out / RESULTS):
        check_file(out / RESULTS, force=None)
    for recipe, folder in runs:
        check_begun(folder, partial(_foreign, recipe))


def _foreign(recipe: Recipe, folder: Path) -> str | None:
    """What tells that a folder holds another thing than a run of a recipe."""
    others = sorted(path.name for path in folder.iterdir() if not is_unfinished(path))
    if not others:
        return None
    recipe_file = folder / _RECIPE
    try:
        other = load_recipe(recipe_file)
    except RecipeError:
        return f"contains {others[0]}, but not the recipe of the run that wrote it"
    if is_one_run(other, recipe):
        return None
    if (folder / _TRAINED / RECORD).exists():
        return "contains a run of another recipe"
    ours = recipe_file.read_text(encoding="utf-8") == _as_yaml(other)
    return None if ours else f"contains {_RECIPE}, which no run wrote"


def _as_yaml(recipe: Recipe) -> str:
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    return text


def _is_results(path: Path) -> bool:
    """Whether a file is what an experiment writes of its scores."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    splits = {Path(split).stem for split in OF_RUNS}
    return isinstance(content, dict) and all(what.partition(", ")[0] in splits for what in content)


def one_run(recipe: Recipe, base: Path, folder: Path, options: Options) -> None:
    """Train, merge, and score on the development split, and on the test split if that is asked.

    Forecasts are scored on the development split only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe_file = folder / _RECIPE
    if not recipe_file.exists() or load_recipe(recipe_file) != recipe:
        with written_whole(recipe_file) as file:
            file.write(_as_yaml(recipe))
    trained, bundle = folder / _TRAINED, folder / _BUNDLE
    arguments = ["train", str(recipe_file), "--data", str(options.data), "--base", str(base)]
    arguments += ["--compile"] if options.compiled else []
    arguments += ["--teacher", str(options.teacher)] if options.teacher and recipe.teacher else []
    shared = ["--shared", str(options.out / _STAGES)]
    own = str(folder / _DEMONSTRATIONS)
    pool = ["--demonstrations", own] if own in demonstrations_shown(recipe, Path(own)) else []
    launched = launcher(options)
    _step(folder, [*arguments, "--out", str(trained), *shared, *pool], options, launched)
    if not (bundle / FILE).is_file():
        _step(folder, ["merge", str(trained), "--base", str(base), "--out", str(bundle)], options)
    record, shown = ["--record", str(bundle)], demonstrations_shown(recipe, Path(own))
    if recipe.development and not (folder / DEVELOPMENT).is_file():
        extra = [*shown, *record]
        _score(recipe, bundle, recipe.development, folder / DEVELOPMENT, options, extra)
    if recipe.development and recipe.forecasts and not (folder / FORECASTS).is_file():
        extra = ["--task", "prediction", "--no-demonstrations", *record]
        _score(recipe, bundle, recipe.development, folder / FORECASTS, options, extra)
    if options.test and recipe.test and not (folder / TEST).is_file():
        _score(recipe, bundle, recipe.test, folder / TEST, options, shown)


def results(recipes: Mapping[str, Recipe], options: Options) -> dict[str, Any]:
    """What all runs in the folder scored, those of these recipes first; see `run_experiment`."""
    scored: dict[str, dict[str, dict[str, Metrics]]] = {}
    for split in OF_RUNS:
        for name, seed, folder in _runs(recipes, options.out):
            if not (folder / split).is_file():
                continue
            for space, predictions in read_predictions(folder / split).items():
                of_split = scored.setdefault(f"{Path(split).stem}, {space}", {})
                of_split.setdefault(name, {})[str(seed)] = measure(predictions)
    return {
        what: {name: _summed_up(by_seed) for name, by_seed in runs.items()}
        for what, runs in scored.items()
    }


def _runs(recipes: Mapping[str, Recipe], out: Path) -> list[tuple[str, int, Path]]:
    """The name, the seed and the folder of each run that there is."""
    order = {name: place for place, name in enumerate(recipes)}
    folders = [(*model_and_seed(path.name), path) for path in out.glob("*@*")]
    runs = [(name, int(seed), path) for name, seed, path in folders if seed and seed.isdecimal()]
    return sorted(runs, key=lambda run: (order.get(run[0], len(order)), run[0], run[1]))


def _summed_up(by_seed: Mapping[str, Metrics]) -> dict[str, Any]:
    summary = {}
    for name in _HEADINGS:
        unit = 100 if name in TITLES else 1
        scores = {seed: getattr(metrics, name) * unit for seed, metrics in by_seed.items()}
        over_seeds = spread([*scores.values()])
        summary[name] = {
            "seeds": {seed: round(score, 4) for seed, score in scores.items()},
            "mean": round(over_seeds.mean, 4),
            "deviation": None if over_seeds.deviation is None else round(over_seeds.deviation, 4),
        }
    return summary


def shares_of_cores(jobs: int) -> "SimpleQueue[Sequence[int]]":
    """Cores for each of some jobs: apart from each other's, where there are enough.

    Threads of several runs on the same cores wait for each other.
    """
    cores = sorted(os.sched_getaffinity(0))
    shares: SimpleQueue[Sequence[int]] = SimpleQueue()
    for job in range(jobs):
        shares.put(cores[len(cores) * job // jobs : len(cores) * (job + 1) // jobs] or cores)
    return shares


def results_tables(scores_by_split: Mapping[str, Any]) -> str:
    """The results as tables in Markdown: means of the seeds, and their standard deviations."""
    head = f"| run | {' | '.join(_HEADINGS.values())} | seeds |\n|{'---|' * (len(_HEADINGS) + 2)}"
    parts = []
    for what, runs in scores_by_split.items():
        lines = [what, "", head]
        for run, one in runs.items():
            cells = [_cell(one[name], 2 if name in TITLES else 3) for name in _HEADINGS]
            seeds = ", ".join(one["weighted_f1"]["seeds"])
            lines.append(f"| {run} | {' | '.join(cells)} | {seeds} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(of_measure: Mapping[str, Any], digits: int) -> str:
    deviation = of_measure["deviation"]
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{of_measure['mean']:.{digits}f}{spread}"


def _folder(name: str, seed: int, options: Options) -> Path:
    return options.out / f"{name}@{seed}"


def _base(recipe: Recipe, options: Options) -> Path:
    if options.base is not None:
        return options.base
    if recipe.base not in BUILT_HERE:
        raise ValueError(
            f"recipe {recipe.name}: download its base {recipe.base} and name the folder with --base"
        )
    folder = options.out / "bases" / recipe.base
    if not folder.is_dir():
        build_base(recipe.base, folder)
    return folder


def _score(
    recipe: Recipe,
    bundle: Path,
    corpora: Sequence[CorpusFile],
    predictions: Path,
    options: Options,
    extra: Sequence[str],
) -> None:
    named = []
    for corpus in corpora:
        space = f"/{corpus.label_space}" if corpus.label_space else ""
        named += ["--corpus", f"{corpus.format}{space}:{options.data / corpus.path}"]
    if "unified" in recipe.label_spaces:
        named.append("--unified")
    arguments = ["evaluate", str(bundle), *named, "--predictions", str(predictions), *extra]
    _step(predictions.parent, arguments, options)


def demonstrations_shown(recipe: Recipe, own: Path) -> list[str]:
    """The options of `evaluate` that have a run's model shown what its last stage showed it.

    Args:
        own: those that the stage draws from its training corpora.
    """
    asked = recipe.stages[-1].demonstrations if recipe.stages else None
    if asked is None or not asked.shown:
        return ["--no-demonstrations"]
    return [] if SHIPPED_POOL in asked.pools else ["--demonstrations-file", str(own)]


def launcher(options: Options) -> list[str]:
    """What Python is to start the processes with that train a run together."""
    if options.launch is not None:
        config = ["--config_file", str(options.launch)]
        number = ["--num_processes", str(options.processes)] if options.processes else []
        # Two jobs would take the same port for their processes to meet at; 0 is a free one.
        port = ["--main_process_port", "0"] if options.jobs > 1 else []
        return ["-m", "accelerate.commands.launch", *config, *number, *port]
    if options.processes is not None and options.processes > 1:
        together = f"--nproc-per-node={options.processes}"
        return ["-m", "torch.distributed.run", "--standalone", together]
    return []


def _step(
    folder: Path, arguments: Sequence[str], options: Options, launched: Sequence[str] = ()
) -> None:
    """Run a command of `instructerc-train` in a process of its own, which gives back its memory.

    Its progress is on the terminal, or in a file where others run at the same time.
    """
    log.info("%s: %s", folder.name, arguments[0])
    command = [sys.executable, *launched, "-m", "training.cli", *arguments]
    # Which demonstrations are shown is the recipe's to say.
    environment = {k: v for k, v in os.environ.items() if k != "ERC_DEMONSTRATIONS__FILE"}
    alone = options.jobs == 1
    with nullcontext() if alone else (folder / _LOG).open("ab") as output:
        ended = subprocess.run(  # noqa: S603
            command, check=False, env=environment, stdout=output, stderr=output
        )
    if ended.returncode:
        where = "" if alone else f", see {folder / _LOG}"
        raise ExperimentError(
            f"{folder}: {arguments[0]} exited with status {ended.returncode}{where}"
        )
