"""Fine-tunes an adapter, or all parameters, as a recipe says."""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.decoding.bundle import write_bundle
from service.decoding.precision import in_words
from training.datasets.reading import Corpus
from training.finetuning.adapters import name_base, round_adapter
from training.finetuning.averaging import write_mean
from training.finetuning.label_probabilities import development_scores
from training.finetuning.loading import check_compiler, compile_layers, load_model
from training.finetuning.packing import Row, pack
from training.finetuning.preflight import CheckedRun, check_run
from training.finetuning.processes import device, is_first_process, of_first_process, wait_for_all
from training.finetuning.row_attention import RowAttention
from training.finetuning.row_sharing import agree_on_attention
from training.finetuning.run_record import (
    CHECKPOINTS,
    LOGS,
    RunRecord,
    names_of_runs,
    open_record,
    write_record,
)
from training.finetuning.sharding import shards_weights
from training.finetuning.shared_stages import identity, share, take
from training.finetuning.teachers import Loaded, runs_of_a_stage, trained_model
from training.finetuning.trainer import Run, kept_weights, remove_checkpoints, run_stage
from training.mixture.demonstration_files import domain_base, keep_demonstrations
from training.mixture.mixing import Soft, held_out, mix
from training.mixture.pools import Pools
from training.mixture.pseudo_labels import Teacher, pseudo_labelled
from training.mixture.sources import Sources
from training.mixture.targets import soft_labels
from training.mixture.tasks import LabelledExample
from training.recipe import PseudoLabels, Recipe, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

SAVE_EVERY = 200
# Seeds of a stage's runs: neighbouring recipes' seeds share none.
_RUNS_APART = 1000


def train(
    recipe: Recipe,
    base: Path,
    sources: Sources,
    out: Path,
    *,
    save_every: int = SAVE_EVERY,
    compiled: bool = False,
    shared: Path | None = None,
    demonstrations: Path | None = None,
) -> None:
    """Run every stage of a recipe and write the adapter, or the weights where all are trained.

    A run that was killed goes on from its last checkpoint when it is started again.

    Args:
        base: the folder of the base model.
        out: gets the weights, `bundle.json` for the bundle that a merge makes of them, and
            `training.json`, the run's record (`training.finetuning.run_record`).
        save_every: steps between two checkpoints.
        compiled: whether the model's layers are compiled for training.
        shared: a folder of stages that runs begin with; those that are there are not trained again.
        demonstrations: gets those of the last stage's "train" pool; the only output that holds
            text of the corpora.

    Raises:
        DatasetError: corpus files are missing, or one is not what the recipe says, or is held out.
        RecipeError: the recipe cannot be trained on this base, leaves utterances no room in their
            prompts, names a label space that no stage trains or leaves out one that is to be
            scored, has no labels to score by, or is another one than `out` was begun with, or from
            something else, or would be computed in another type or with other rows.
        OutputError: `out` is the base or holds something else than a run, or `demonstrations`
            exists with other contents.
        ModelFolderError: the base cannot be loaded; its weights have not been read.
        ValueError: layers are to be compiled, and there is no compiler.
        OSError: the base or the output folder cannot be used.
    """
    if compiled:
        check_compiler()
    run = check_run(recipe, base, sources, out, demonstrations)
    record = open_record(recipe, run.material(), run.compute, out)
    if demonstrations is not None and run.stages and is_first_process():
        _write_pool(run, demonstrations)
    if record.complete:
        log.info("%s: is already trained", out)
        return
    log.info("computes in %s", in_words(run.compute, device().type))
    _begin(run, record, out)
    development = _development_examples(run)
    record.agreement.update({what: _agreement(what, of) for what, of in development.items()})
    training = _Training(run, development, record, out, save_every, compiled)
    weights = None
    for number in range(len(run.stages)):
        weights = _finish_stage(training, number, weights, shared)
    if is_first_process():
        _finish(training, weights)


def _write_pool(run: CheckedRun, path: Path) -> None:
    """Write the last stage's "train" pool, in the recipe's label spaces, to a file."""
    stage, corpora = run.stages[-1]
    spaces = [run.sources.label_spaces[name] for name in run.recipe.label_spaces]
    balanced = stage.demonstrations.balanced
    keep_demonstrations(domain_base(corpora, spaces, run.recipe.seed, balanced=balanced), path)


def _begin(run: CheckedRun, record: RunRecord, out: Path) -> None:
    """Create the run's folder and seed the random generators."""
    from transformers import set_seed

    out.mkdir(parents=True, exist_ok=True)
    if is_first_process():
        write_record(record, out)  # first, for by it the folder is known to be the run's
        write_bundle(run.bundle, out)
    set_seed(run.recipe.seed)


def _development_examples(run: CheckedRun) -> Mapping[str, Sequence[LabelledExample]]:
    """Examples that epochs are scored on, by what is asked; none without a development split."""
    if not run.stages or not run.development:
        return {}
    stage, corpora = run.stages[-1]
    pools = Pools(run.sources, corpora, run.recipe.seed, run.held_out)
    examples = held_out(run.development, stage, pools, run.sources, run.settings)
    log.info("held out: %s", {what: len(of_split) for what, of_split in examples.items()})
    return examples


@dataclass(frozen=True, slots=True)
class _Training:
    """A run under way, with what all its stages have in common.

    Attributes:
        development: examples that epochs are scored on, by what is asked.
        record: changes as the run goes on.
        save_every: steps between two checkpoints.
        compiled: whether the model's layers are compiled for training.
    """

    run: CheckedRun
    development: Mapping[str, Sequence[LabelledExample]]
    record: RunRecord
    out: Path
    save_every: int
    compiled: bool

    def checkpoints(self, name: str) -> Path:
        """The folder of checkpoints of a stage, or of one of its runs."""
        return self.out / CHECKPOINTS / name

    def finish(self, name: str) -> None:
        """Record that a stage, or one of its runs, has ended."""
        self.record.finished.append(name)
        self.write_record()

    def write_record(self) -> None:
        if is_first_process():
            write_record(self.record, self.out)

    def scores(
        self, model: Any, causal: "PreTrainedModel", attention: RowAttention
    ) -> dict[str, float]:
        """A model's development scores; arguments as of `development_scores`."""
        run = self.run
        return development_scores(
            model, causal, self.development, run.settings, run.compute, attention
        )


def _finish_stage(
    training: _Training, number: int, before: Path | None, shared: Path | None
) -> Path:
    """Train a stage, or take it from the shared ones, unless it is finished.

    Args:
        number: of the stage, from 0.
        before: the weights that the stage before has left.

    Returns:
        The folder of the weights that it has left.
    """
    stage, corpora = training.run.stages[number]
    weights = kept_weights(training.checkpoints(stage.name))
    if stage.name in training.record.finished:
        return weights
    common = None if shared is None else _shared_folder(training.run, number, shared)
    if common is None or not _taken(training, stage, common, weights):
        _train_stage(training, stage, corpora, before)
    if common is not None and is_first_process():
        share(weights, stage.name, training.record, common)
    training.finish(stage.name)
    return weights


def _shared_folder(run: CheckedRun, number: int, shared: Path) -> Path | None:
    """The folder that shares a stage with other runs; None for the last stage and for teachers."""
    stage, _ = run.stages[number]
    if number == len(run.stages) - 1 or _teaches(stage, run.recipe):
        return None
    first = number + 1
    return shared / identity(run.recipe, first, run.material(first), run.compute)


def _finish(training: _Training, weights: Path | None) -> None:
    """Write the run's weights, and record that it is complete.

    Args:
        weights: those that the last stage has left; None leaves the base as it is.
    """
    run, out = training.run, training.out
    if weights is not None:
        _move_weights(weights, out)
        if run.recipe.lora is not None and run.recipe.lora.stored_as == "bfloat16":
            round_adapter(out)
    else:
        load_model(run.recipe, run.base, None, run.compute)[0].save_pretrained(out)
    name_base(out, run.recipe.base)
    training.record.complete = True
    write_record(training.record, out)
    remove_checkpoints(out / CHECKPOINTS)


def _taken(training: _Training, stage: Stage, common: Path, weights: Path) -> bool:
    """Take a stage from a run that shared it; returns whether there is one."""
    # Another run may share it at this moment: all processes go by what the first one has seen.
    there = of_first_process(common.is_dir())
    if there and is_first_process():
        take(common, stage.name, training.record, weights)
    if there:
        wait_for_all()
    return there


def _train_stage(
    training: _Training, stage: Stage, corpora: Sequence[Corpus], before: Path | None
) -> None:
    """Run a stage as often as it says, and keep the weights, or the mean of them."""
    run, names = training.run, names_of_runs(stage)
    seeds = {name: run.recipe.seed + _RUNS_APART * number for number, name in enumerate(names)}
    if left := [name for name in names if name not in training.record.finished]:
        pools = Pools(run.sources, corpora, run.recipe.seed, run.held_out)
        soft = soft_labels(corpora, stage, run.sources, pools)
        if stage.pseudo_labels is not None:
            more, taught = pseudo_labelled(corpora, stage, _teacher(training, stage.pseudo_labels))
            corpora, soft = [*corpora, *more], {**soft, **taught}
        for name in left:  # the first is the run that a stage of one would be
            drawn = pools.with_seed(seeds[name])
            examples = _examples(run, stage, corpora, drawn, soft, seeds[name])
            _run_once(training, stage, examples, before, name, seeds[name])
            if name != stage.name:
                training.finish(name)
    if names != [stage.name]:
        weights = kept_weights(training.checkpoints(stage.name))
        if is_first_process():
            runs = [kept_weights(training.checkpoints(name)) for name in names]
            shares = dict.fromkeys(runs, (1 - stage.start_share) / len(runs))
            if before is not None and stage.start_share:
                shares[before] = stage.start_share
            write_mean(shares, weights)
        wait_for_all()
        scores = training.scores(*_load_kept(run, weights))
        log.info("stage %s, mean of %d runs: %s", stage.name, stage.runs, json.dumps(scores))
        training.record.put_scores(stage.name, stage.epochs, scores, stage)
    wait_for_all()


def _teaches(stage: Stage, recipe: Recipe) -> bool:
    """Whether a later stage asks the stage's runs: these are not shared."""
    return any(s.pseudo_labels and s.pseudo_labels.teacher == stage.name for s in recipe.stages)


def _teacher(training: _Training, labels: PseudoLabels) -> Teacher:
    """The teacher of a stage's pseudo-labels."""
    run = training.run
    if labels.bundle is not None and run.sources.teacher is not None:
        return trained_model(run.sources.teacher, run.compute)
    (stage,) = (stage for stage in run.recipe.stages if stage.name == labels.teacher)
    weights = [kept_weights(training.checkpoints(name)) for name in names_of_runs(stage)]
    return runs_of_a_stage(
        (partial(_load_kept, run, of_run) for of_run in weights), run.settings, run.compute
    )


def _load_kept(run: CheckedRun, weights: Path) -> Loaded:
    """Load a model with kept weights for inference."""
    model, causal = load_model(run.recipe, run.base, weights, run.compute)
    model.to(device()).eval()
    return model, causal, agree_on_attention(causal, run.compute)


def _examples(
    run: CheckedRun,
    stage: Stage,
    corpora: Sequence[Corpus],
    pools: Pools,
    soft: Soft,
    seed: int,
) -> list[LabelledExample]:
    """The examples of all epochs of a stage's run, in order."""
    return [
        example
        for epoch in range(stage.epochs)
        for example in mix(corpora, stage, pools, run.sources, run.settings, seed, epoch, soft)
    ]


def _run_once(
    training: _Training,
    stage: Stage,
    examples: Sequence[LabelledExample],
    before: Path | None,
    name: str,
    seed: int,
) -> None:
    """Train on a stage's examples, from the weights of the stage before.

    Args:
        name: of the stage, or "STAGE/RUN"; it is known by it on record and in the folders.
        seed: of this run of the stage.
    """
    from transformers import set_seed

    run = training.run
    training.record.agreement[name] = _agreement(name, examples)
    set_seed(run.recipe.seed)  # the runs of a stage begin with one and the same adapter
    model, causal = load_model(
        run.recipe, run.base, before, run.compute, stage.dropout, recompute=run.recompute
    )
    if not shards_weights(os.environ):
        model.to(device())  # how it attends depends on where it lies
    attention = agree_on_attention(causal, run.compute)
    training.record.put_attention(name, attention)
    training.write_record()
    if training.compiled:
        compile_layers(causal)

    def after_epoch(wrapped: Any, epoch: int) -> tuple[dict[str, float], bool]:
        scores = training.scores(wrapped, causal, attention)
        log.info("stage %s, epoch %d: %s", name, epoch, json.dumps(scores))
        best = training.record.put_scores(name, epoch, scores, stage)
        training.write_record()
        return scores, best

    of_stage = Run(
        model=model,
        causal=causal,
        compute=run.compute,
        attention=attention,
        recompute=run.recompute,
        seed=seed,
        checkpoints=training.checkpoints(name),
        logs=training.out / LOGS / name if is_first_process() else None,
        save_every=training.save_every,
        after_epoch=after_epoch,
    )
    run_stage(run.recipe, stage, _rows(stage, examples, attention), of_stage)


def _rows(stage: Stage, examples: Sequence[LabelledExample], attention: RowAttention) -> list[Row]:
    longest = attention.row_tokens_in(stage.tokens_per_batch)
    rows = list(pack((e.example for e in examples), longest))
    log.info(
        "stage %s: %d examples, %d tokens packed into %d",
        stage.name,
        len(examples),
        sum(len(s) for e in examples for s in e.example.segments),
        sum(len(row.ids) for row in rows),
    )
    return rows


def _agreement(what: str, examples: Sequence[LabelledExample]) -> dict[str, float]:
    """By label space, how often the nearest demonstration has the utterance's own label, 0 to 1."""
    agrees: dict[str, list[bool]] = defaultdict(list)
    for example in examples:
        if example.demonstrations:
            nearest = example.demonstrations[0]
            agrees[example.label_space.name].append(nearest.label == example.label)
    shares = {space: round(sum(same) / len(same), 4) for space, same in agrees.items()}
    if shares:
        log.info("%s: share of nearest demonstrations with the same label: %s", what, shares)
    return shares


def _move_weights(finished: Path, out: Path) -> None:
    """Move the weights and what describes them up from the last stage's folder."""
    for path in sorted(finished.iterdir()):
        if path.is_file() and path.suffix in {".safetensors", ".json"}:
            path.replace(out / path.name)
