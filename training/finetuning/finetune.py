"""Fine-tunes an adapter, or all parameters, as a recipe says."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.decoding.bundle import write_bundle
from service.decoding.precision import ComputeType, compute_type, in_words
from service.outputs import check_file
from training.arrays import Floats
from training.datasets.leakage import without_held_out
from training.datasets.reading import Corpus
from training.finetuning.adapters import check_base, name_base
from training.finetuning.asking import development_scores, probabilities
from training.finetuning.averaging import write_mean
from training.finetuning.bases import base_revision
from training.finetuning.description import bundle_of
from training.finetuning.label_spaces import (
    check_development,
    check_label_spaces,
    check_scored,
)
from training.finetuning.loading import load_model
from training.finetuning.material import material_of
from training.finetuning.packing import ROW_TOKENS, Row, pack
from training.finetuning.processes import device, is_first_process, of_first_process, wait_for_all
from training.finetuning.row_sharing import reads_trees
from training.finetuning.run_record import (
    CHECKPOINTS,
    LOGS,
    RunRecord,
    check_out,
    names_of_runs,
    open_record,
    write_record,
)
from training.finetuning.sharding import check_sharding
from training.finetuning.shared_stages import identity, share, take
from training.finetuning.soundness import config_of, look_at_base
from training.finetuning.trainer import Run, kept_weights, remove_checkpoints, run_stage
from training.mixture.demonstration_files import domain_base, keep_demonstrations
from training.mixture.mixing import Soft, check_prompts, held_out, mix
from training.mixture.pools import Pools
from training.mixture.pseudo_labels import Ask, check_pseudo_labels, pseudo_labelled
from training.mixture.sampling import sampled
from training.mixture.sources import Sources
from training.mixture.targets import check_balance, soft_labels
from training.mixture.tasks import LabelledExample, PromptSettings, prompt_settings
from training.recipe import Recipe, Stage

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
    shared: Path | None = None,
    demonstrations: Path | None = None,
) -> None:
    """Run every stage of a recipe and write the adapter, or the weights where all are trained.

    A run that was killed goes on from its last checkpoint when it is started again.

    Args:
        base: the folder of the base model.
        out: gets the weights, `bundle.json` for the bundle that a merge makes of them, and
            `training.json`, which keeps the recipe, what was computed in, the development scores of
            each epoch, which epoch's weights were kept, and how often demonstrations agreed with
            the label.
        save_every: steps between two checkpoints.
        shared: a folder of stages that runs begin with; those that are there are not trained again.
        demonstrations: gets those that the last stage's "train" pool has, which are text of the
            corpora; nothing else that is written is.

    Raises:
        DatasetError: corpus files are missing, or one is not what the recipe says, or is held out.
        RecipeError: the recipe cannot be trained on this base, leaves utterances no room in their
            prompts, names a label space that no stage trains or leaves out one that is to be
            scored, has no labels to score by, or is another one than `out` was begun with, or from
            something else, or would be computed in another type.
        OutputError: `out` is the base or holds something else than a run, or `demonstrations`
            is there with other contents.
        ModelFolderError: the base cannot be loaded; its weights have not been read.
        OSError: the base or the output folder cannot be used.
    """
    check_out(out, base)
    if demonstrations is not None and not demonstrations.exists():
        check_file(demonstrations)
    look_at_base(base)
    sources.check_there(recipe.corpora())
    development = sources.corpora(recipe.development)
    check_development(recipe, development)
    # A test split that is not here yet cannot be left out.
    tests = [file for file in recipe.test if (sources.data / file.path).exists()]
    for file in recipe.test:
        if file not in tests:
            log.info("%s: is not there, so its dialogues are not left out", file.path)
    apart = [*development, *sources.corpora(tests)]
    stages = []
    for stage in recipe.stages:
        read = without_held_out(sources.corpora(stage.corpora), apart)
        stages.append((stage, sampled(read, stage.sample, recipe.seed)))
    check_label_spaces(recipe, stages, sources)
    check_scored(recipe, apart)
    for stage, read in stages:
        check_balance(read, stage, sources)
        check_pseudo_labels(read, stage)
    from transformers import set_seed  # which takes seconds

    set_seed(recipe.seed)
    config_of(base)
    settings = prompt_settings(recipe, base)
    check_base(recipe, base)
    check_prompts(recipe, stages, sources, settings)
    check_sharding(recipe)
    revision = base_revision(base)
    bundle = bundle_of(recipe, revision, sources)
    on = device().type
    compute = compute_type(recipe.compute, on)
    record = open_record(recipe, material_of(recipe, bundle, stages, sources), compute, out)
    if demonstrations is not None and stages and is_first_process():
        _write_pool(recipe, *stages[-1], sources, demonstrations)
    if record.complete:
        log.info("%s: is trained already", out)
        return
    log.info("computes in %s", in_words(compute, on))
    out.mkdir(parents=True, exist_ok=True)
    if is_first_process():
        write_record(record, out)  # first, for by it the folder is known to be the run's
        write_bundle(bundle, out)
    held: Mapping[str, Sequence[LabelledExample]] = {}
    if stages and development:
        last, last_corpora = stages[-1]
        pools = Pools(sources, last_corpora, recipe.seed, apart)
        held = held_out(development, last, pools, sources, settings)
        log.info("held out: %s", {what: len(examples) for what, examples in held.items()})
    for what, of_split in held.items():
        record.agreement[what] = _agreement(what, of_split)
    training = _Training(
        recipe, base, sources, settings, compute, apart, held, record, out, save_every
    )
    before: Path | None = None
    for number, (stage, read) in enumerate(stages, 1):
        kept = kept_weights(training.checkpoints(stage.name))
        if stage.name not in record.finished:
            common = None
            if shared is not None and number < len(stages) and not _teaches(stage, recipe):
                material = material_of(recipe, bundle, stages[:number], sources)
                common = shared / identity(recipe, number, material, compute)
            if common is None or not _taken(training, stage, common, kept):
                _train_stage(training, stage, read, before)
            if common is not None and is_first_process():
                share(kept, stage.name, record, common)
            training.is_finished(stage.name)
        before = kept
    if not is_first_process():
        return
    if before is not None:
        _move_weights(before, out)
    else:
        load_model(recipe, base, None, compute)[0].save_pretrained(out)
    name_base(out, recipe.base)
    record.complete = True
    write_record(record, out)
    remove_checkpoints(out / CHECKPOINTS)


def _write_pool(
    recipe: Recipe, stage: Stage, corpora: Sequence[Corpus], sources: Sources, path: Path
) -> None:
    """Have a file of what a stage's "train" pool holds in the recipe's label spaces."""
    spaces = [sources.label_spaces[name] for name in recipe.label_spaces]
    balanced = stage.demonstrations.balanced
    keep_demonstrations(domain_base(corpora, spaces, recipe.seed, balanced=balanced), path)


@dataclass(frozen=True, slots=True)
class _Training:
    """What all stages of a run have in common."""

    recipe: Recipe
    base: Path
    sources: Sources
    settings: PromptSettings
    compute: ComputeType
    apart: Sequence[Corpus]
    held: Mapping[str, Sequence[LabelledExample]]
    record: RunRecord
    out: Path
    save_every: int

    def checkpoints(self, name: str) -> Path:
        """The folder of those of a stage, or of one of its runs."""
        return self.out / CHECKPOINTS / name

    def is_finished(self, what: str) -> None:
        self.record.finished.append(what)
        self.write_record()

    def write_record(self) -> None:
        if is_first_process():
            write_record(self.record, self.out)


def _taken(training: _Training, stage: Stage, common: Path, kept: Path) -> bool:
    """Take a stage from another run that shared it; whether there is one."""
    # Another run may share it at this moment: all processes go by what the first one has seen.
    there = of_first_process(common.is_dir())
    if there and is_first_process():
        take(common, stage.name, training.record, kept)
    if there:
        wait_for_all()
    return there


def _train_stage(
    training: _Training, stage: Stage, corpora: Sequence[Corpus], before: Path | None
) -> None:
    """Run a stage as often as it says, and keep the weights, or the mean of them."""
    names = names_of_runs(stage)
    seed = training.recipe.seed
    seeds = {name: seed + _RUNS_APART * number for number, name in enumerate(names)}
    if left := [name for name in names if name not in training.record.finished]:
        pools = Pools(training.sources, corpora, training.recipe.seed, training.apart)
        soft = soft_labels(corpora, stage, training.sources, pools)
        if stage.pseudo_labels is not None:
            ask = _ask(training, stage.pseudo_labels.teacher)
            more, taught = pseudo_labelled(corpora, stage, training.settings, ask)
            corpora, soft = [*corpora, *more], {**soft, **taught}
        for name in left:  # the first is the run that a stage of one would be
            drawn = pools.with_seed(seeds[name])
            _run_once(training, stage, corpora, drawn, soft, before, name, seeds[name])
            if stage.runs > 1:
                training.is_finished(name)
    if stage.runs > 1 and is_first_process():
        kept = kept_weights(training.checkpoints(stage.name))
        write_mean([kept_weights(training.checkpoints(name)) for name in names], kept)
        model, causal, trees = _trained(training, kept)
        scores = development_scores(
            model, causal, training.held, training.settings, training.compute, trees
        )
        log.info("stage %s, mean of %d runs: %s", stage.name, stage.runs, json.dumps(scores))
        training.record.put_scores(stage.name, stage.epochs, scores, stage)
    wait_for_all()


def _teaches(stage: Stage, recipe: Recipe) -> bool:
    """Whether a later stage asks its runs, which are not shared with other recipes' runs."""
    return any(s.pseudo_labels and s.pseudo_labels.teacher == stage.name for s in recipe.stages)


def _ask(training: _Training, name: str) -> Ask:
    """What a finished stage's runs say together: the mean of their probabilities."""
    (teacher,) = (stage for stage in training.recipe.stages if stage.name == name)

    def ask(examples: Sequence[LabelledExample]) -> list[Floats]:
        said = []
        for run in names_of_runs(teacher):
            model, causal, trees = _trained(training, kept_weights(training.checkpoints(run)))
            said.append(
                probabilities(model, causal, examples, training.settings, training.compute, trees)
            )
        return [np.mean(rows, axis=0) for rows in zip(*said, strict=True)]

    return ask


def _trained(training: _Training, kept: Path) -> tuple[Any, "PreTrainedModel", bool]:
    """The model with weights that were kept, to be asked, and whether it reads trees."""
    model, causal = load_model(training.recipe, training.base, kept, training.compute)
    model.to(device()).eval()
    return model, causal, reads_trees(causal)


def _run_once(
    training: _Training,
    stage: Stage,
    corpora: Sequence[Corpus],
    pools: Pools,
    soft: Soft,
    before: Path | None,
    name: str,
    seed: int,
) -> None:
    """Train on a stage's corpora, from the weights of the stage before.

    Args:
        name: of the stage, or "STAGE/RUN"; it is known by it on record and in the folders.
    """
    from transformers import set_seed

    examples = [
        example
        for epoch in range(stage.epochs)
        for example in mix(
            corpora, stage, pools, training.sources, training.settings, seed, epoch, soft
        )
    ]
    training.record.agreement[name] = _agreement(name, examples)
    set_seed(training.recipe.seed)  # the runs of a stage begin with one and the same adapter
    model, causal = load_model(
        training.recipe, training.base, before, training.compute, stage.dropout
    )
    # Of a model that is to be sharded, the other processes may hold no weights yet.
    trees = of_first_process(is_first_process() and reads_trees(causal))

    def after_epoch(wrapped: Any, epoch: int) -> tuple[dict[str, float], bool]:
        scores = development_scores(
            wrapped, causal, training.held, training.settings, training.compute, trees
        )
        log.info("stage %s, epoch %d: %s", name, epoch, json.dumps(scores))
        best = training.record.put_scores(name, epoch, scores, stage)
        training.write_record()
        return scores, best

    logs = training.out / LOGS / name if is_first_process() else None
    run = Run(
        model,
        causal,
        training.compute,
        trees,
        seed,
        training.checkpoints(name),
        logs,
        training.save_every,
        after_epoch,
    )
    run_stage(training.recipe, stage, _rows(stage, examples, trees), run)


def _rows(stage: Stage, examples: Sequence[LabelledExample], trees: bool) -> list[Row]:
    rows = list(pack((e.example for e in examples), ROW_TOKENS if trees else 0))
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
    found: dict[str, list[bool]] = defaultdict(list)
    for example in examples:
        if example.demonstrations:
            found[example.label_space.name].append(example.demonstrations[0].label == example.label)
    shares = {space: round(sum(same) / len(same), 4) for space, same in found.items()}
    if shares:
        log.info("%s: share of nearest demonstrations with the label itself: %s", what, shares)
    return shares


def _move_weights(finished: Path, out: Path) -> None:
    """Move the weights and what describes them up from the last stage's folder."""
    for path in sorted(finished.iterdir()):
        if path.is_file() and path.suffix in {".safetensors", ".json"}:
            path.replace(out / path.name)
