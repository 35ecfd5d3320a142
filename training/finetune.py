"""Fine-tunes an adapter, or all parameters, as a recipe says."""

import hashlib
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.conversation.dialogue import HistoryWindow
from service.conversation.labels import UNIFIED
from service.conversation.prompts import TEMPLATES
from service.decoding.bundle import Base, Bundle, Window, trained_labels, write_bundle
from service.decoding.tokenizer import load_tokenizer
from service.demonstrations.corpus import edition_of
from training.adapters import check_base, dropout_key, lora_config, name_base
from training.asking import development_scores, probabilities
from training.averaging import write_mean
from training.bases import base_revision, weights_of
from training.datasets.fingerprint import fingerprint
from training.datasets.reading import Corpus
from training.demonstration_files import domain_base, write_demonstrations
from training.leakage import without_held_out
from training.mixing import (
    SHIPPED_POOL,
    Pools,
    Soft,
    Sources,
    check_lengths,
    held_out,
    mix,
    trained_spaces,
)
from training.packing import ROW_TOKENS, Row, pack
from training.predictions import Floats
from training.pseudo_labels import Ask, check_pseudo_labels, pseudo_labelled
from training.recipe import Recipe, RecipeError, Stage
from training.row_sharing import reads_trees, takes_positions
from training.run_record import begun, put_scores, write_record
from training.sampling import sampled
from training.sharding import check_sharding
from training.shared_stages import identity, share, take
from training.targets import check_balance, soft_labels
from training.tasks import LabelledExample, PromptSettings
from training.trainer import Run, kept_weights, run_stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

SAVE_EVERY = 200
_CHECKPOINTS = "checkpoints"
# Seeds of a stage's runs: neighbouring recipes' seeds share none.
_RUNS_APART = 1000


def train(
    recipe: Recipe,
    base: Path,
    sources: Sources,
    encoder: str,
    out: Path,
    save_every: int = SAVE_EVERY,
    shared: Path | None = None,
    demonstrations: Path | None = None,
) -> None:
    """Run every stage of a recipe and write the adapter, or the weights where all are trained.

    A run that was killed goes on from its last checkpoint when it is started again.

    Args:
        base: the folder of the base model.
        encoder: identity of the encoder that `sources` pairs demonstrations with.
        out: gets the weights, `bundle.json` for the bundle that a merge makes of them, and
            `training.json`, which keeps the recipe, the development scores of each epoch, which
            epoch's weights were kept, and how often demonstrations agreed with the label.
        save_every: steps between two checkpoints.
        shared: a folder of stages that runs begin with; those that are there are not trained again.
        demonstrations: gets those that the last stage's "train" pool has, which are text of the
            corpora; nothing else that is written is.

    Raises:
        DatasetError: a corpus file is not what the recipe says, is held out, or is to be scored and
            has an utterance whose prompt is too long.
        RecipeError: the recipe cannot be trained on this base, names a label space that no stage
            trains or leaves out one that is to be scored, or is another one than `out` was begun
            with, or from something else.
        OSError: the base or the output folder cannot be used.
    """
    from transformers import set_seed

    set_seed(recipe.seed)
    weights_of(base)
    settings = prompt_settings(recipe, base)
    development = sources.corpora(recipe.development)
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
    _check_label_spaces(recipe, stages, sources)
    _check_scored(recipe, apart)
    for stage, read in stages:
        check_balance(read, stage, sources)
        check_pseudo_labels(read, stage)
    check_base(recipe, base)
    check_sharding(recipe)
    revision = base_revision(base)
    bundle = _bundle(recipe, revision, sources, encoder)
    record = begun(recipe, _material(recipe, bundle, stages, sources), out)
    if not record["complete"]:
        check_lengths(apart, recipe.label_spaces, sources, settings)
    if demonstrations is not None and stages and _is_first_process():
        _write_pool(recipe, *stages[-1], sources, demonstrations)
    if record["complete"]:
        log.info("%s: is trained already", out)
        return
    out.mkdir(parents=True, exist_ok=True)
    if _is_first_process():
        write_bundle(bundle, out)
    held: Mapping[str, Sequence[LabelledExample]] = {}
    if stages and development:
        last, last_corpora = stages[-1]
        pools = Pools(sources, last_corpora, recipe.seed, apart)
        held = held_out(development, last, pools, sources, settings)
        log.info("held out: %s", {what: len(examples) for what, examples in held.items()})
    for what, of_split in held.items():
        record["agreement"][what] = _agreement(what, of_split)
    training = _Training(recipe, base, sources, settings, apart, held, record, out, save_every)
    before: Path | None = None
    for number, (stage, read) in enumerate(stages, 1):
        kept = kept_weights(training.checkpoints(stage.name))
        if stage.name not in record["finished"]:
            common = None
            if shared is not None and number < len(stages) and not _teaches(stage, recipe):
                material = _material(recipe, bundle, stages[:number], sources)
                common = shared / identity(recipe, number, material)
            if common is None or not _taken(training, stage, common, kept):
                _train_stage(training, stage, read, before)
            if common is not None and _is_first_process():
                share(kept, stage.name, record, common)
            training.is_finished(stage.name)
        before = kept
    if not _is_first_process():
        return
    if before is not None:
        _move_weights(before, out)
    else:
        _model(recipe, base, None)[0].save_pretrained(out)
    name_base(out, recipe.base)
    write_record(record | {"complete": True}, out)
    shutil.rmtree(out / _CHECKPOINTS, ignore_errors=True)


def _write_pool(
    recipe: Recipe, stage: Stage, corpora: Sequence[Corpus], sources: Sources, path: Path
) -> None:
    """Write what a stage's "train" pool holds in the recipe's label spaces."""
    spaces = [sources.label_spaces[name] for name in recipe.label_spaces]
    balanced = stage.demonstrations.balanced
    write_demonstrations(domain_base(corpora, spaces, recipe.seed, balanced=balanced), path)


@dataclass(frozen=True, slots=True)
class _Training:
    """What all stages of a run have in common."""

    recipe: Recipe
    base: Path
    sources: Sources
    settings: PromptSettings
    apart: Sequence[Corpus]
    held: Mapping[str, Sequence[LabelledExample]]
    record: dict[str, Any]
    out: Path
    save_every: int

    def checkpoints(self, name: str) -> Path:
        """The folder of those of a stage, or of one of its runs."""
        return self.out / _CHECKPOINTS / name

    def is_finished(self, what: str) -> None:
        self.record["finished"].append(what)
        self.write_record()

    def write_record(self) -> None:
        if _is_first_process():
            write_record(self.record, self.out)


def _taken(training: _Training, stage: Stage, common: Path, kept: Path) -> bool:
    """Take a stage from another run that shared it; whether there is one."""
    # Another run may share it at this moment: all processes go by what the first one has seen.
    there = _of_first_process(common.is_dir())
    if there and _is_first_process():
        take(common, stage.name, training.record, kept)
    if there:
        _wait_for_all()
    return there


def _train_stage(
    training: _Training, stage: Stage, corpora: Sequence[Corpus], before: Path | None
) -> None:
    """Run a stage as often as it says, and keep the weights, or the mean of them."""
    names = _runs(stage)
    seed = training.recipe.seed
    seeds = {name: seed + _RUNS_APART * number for number, name in enumerate(names)}
    if left := [name for name in names if name not in training.record["finished"]]:
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
    if stage.runs > 1 and _is_first_process():
        kept = kept_weights(training.checkpoints(stage.name))
        write_mean([kept_weights(training.checkpoints(name)) for name in names], kept)
        model, causal, trees = _trained(training, kept)
        scores = development_scores(model, causal, training.held, training.settings, trees)
        log.info("stage %s, mean of %d runs: %s", stage.name, stage.runs, json.dumps(scores))
        put_scores(training.record, stage.name, stage.epochs, scores, stage)
    _wait_for_all()


def _runs(stage: Stage) -> list[str]:
    """The names of a stage's runs, by which they are on record and in the folders."""
    if stage.runs == 1:
        return [stage.name]
    return [f"{stage.name}/{number}" for number in range(1, stage.runs + 1)]


def _teaches(stage: Stage, recipe: Recipe) -> bool:
    """Whether a later stage asks its runs, which are not shared with other recipes' runs."""
    return any(s.pseudo_labels and s.pseudo_labels.teacher == stage.name for s in recipe.stages)


def _ask(training: _Training, name: str) -> Ask:
    """What a finished stage's runs say together: the mean of their probabilities."""
    (teacher,) = (stage for stage in training.recipe.stages if stage.name == name)

    def ask(examples: Sequence[LabelledExample]) -> list[Floats]:
        said = []
        for run in _runs(teacher):
            model, causal, trees = _trained(training, kept_weights(training.checkpoints(run)))
            said.append(probabilities(model, causal, examples, training.settings, trees))
        return [np.mean(rows, axis=0) for rows in zip(*said, strict=True)]

    return ask


def _trained(training: _Training, kept: Path) -> tuple[Any, "PreTrainedModel", bool]:
    """The model with weights that were kept, to be asked, and whether it reads trees."""
    model, causal = _model(training.recipe, training.base, kept)
    model.to(_device()).eval()
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
    training.record["agreement"][name] = _agreement(name, examples)
    set_seed(training.recipe.seed)  # the runs of a stage begin with one and the same adapter
    model, causal = _model(training.recipe, training.base, before, stage.dropout)
    # Of a model that is to be sharded, the other processes may hold no weights yet.
    trees = _of_first_process(_is_first_process() and reads_trees(causal))

    def after_epoch(wrapped: Any, epoch: int) -> tuple[dict[str, float], bool]:
        scores = development_scores(wrapped, causal, training.held, training.settings, trees)
        log.info("stage %s, epoch %d: %s", name, epoch, json.dumps(scores))
        best = put_scores(training.record, name, epoch, scores, stage)
        training.write_record()
        return scores, best

    logs = training.out / "logs" / name if _is_first_process() else None
    run = Run(
        model,
        causal,
        trees,
        seed,
        training.checkpoints(name),
        logs,
        training.save_every,
        after_epoch,
    )
    run_stage(training.recipe, stage, _rows(stage, examples, trees), run)


def prompt_settings(recipe: Recipe, base: Path) -> PromptSettings:
    """How a recipe renders prompts for the base in a folder."""
    return PromptSettings(
        TEMPLATES[recipe.template],
        HistoryWindow(recipe.window.lowest, recipe.window.highest),
        load_tokenizer(base),
        recipe.max_tokens,
    )


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


def _is_first_process() -> bool:
    """Of those that `torchrun` or `accelerate launch` started; it alone writes."""
    return os.environ.get("RANK", "0") == "0"


def _of_first_process(said: bool) -> bool:
    """What the first process says, in all of them."""
    from accelerate.utils import broadcast_object_list

    _processes()
    return bool(broadcast_object_list([said])[0])


def _device() -> Any:
    return _processes().device


def _wait_for_all() -> None:
    _processes().wait_for_everyone()


def _processes() -> Any:
    """Those that train together. Without a GPU they find each other only if told to use CPUs."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def _move_weights(finished: Path, out: Path) -> None:
    """Move the weights and what describes them up from the last stage's folder."""
    for path in sorted(finished.iterdir()):
        if path.is_file() and path.suffix in {".safetensors", ".json"}:
            path.replace(out / path.name)


def _model(
    recipe: Recipe, base: Path, finished: Path | None, dropout: float | None = None
) -> tuple[Any, "PreTrainedModel"]:
    """The model to train, from a finished stage if there is one, and the language model in it."""
    import peft
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    whole = recipe.lora is None
    folder = finished if whole and finished else base
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if dropout is not None and (key := dropout_key(config)) is not None:
        setattr(config, key, dropout)
    causal = AutoModelForCausalLM.from_pretrained(
        folder, config=config, local_files_only=True, dtype=getattr(torch, recipe.dtype)
    )
    if takes_positions(causal):
        # Its mask for each pair of tokens is Boolean; what adds masks to scores would misread it.
        causal.set_attn_implementation("sdpa")
    if recipe.lora is None:
        return causal, causal
    if finished is not None:
        model = peft.PeftModel.from_pretrained(causal, str(finished), is_trainable=True)
    else:
        model = peft.get_peft_model(causal, lora_config(recipe.lora))
    if recipe.gradient_checkpointing:
        model.enable_input_require_grads()
    return model, model.get_base_model()


def _check_label_spaces(
    recipe: Recipe, stages: Sequence[tuple[Stage, Sequence[Corpus]]], sources: Sources
) -> None:
    """A bundle must not answer in a label space that the model never saw."""
    if not recipe.stages:
        return
    trained = {
        space.name
        for stage, corpora in stages
        if stage.tasks.main
        for corpus in corpora
        for space, _ in trained_spaces(corpus, stage, sources)
    }
    if untrained := set(recipe.label_spaces) - trained:
        raise RecipeError(
            f"recipe {recipe.name}: label_spaces: no stage trains {', '.join(sorted(untrained))}"
        )


def _check_scored(recipe: Recipe, held_out: Sequence[Corpus]) -> None:
    """What is to be scored must have labels that the bundle answers in."""
    for corpus in held_out:
        if not {corpus.label_space.name, UNIFIED} & {*recipe.label_spaces}:
            raise RecipeError(
                f"recipe {recipe.name}: label_spaces: {corpus.path} is to be scored, and none of "
                f"its labels, {corpus.label_space.name} and {UNIFIED}, is among them"
            )


def _material(
    recipe: Recipe,
    bundle: Bundle,
    stages: Sequence[tuple[Stage, Sequence[Corpus]]],
    sources: Sources,
) -> dict[str, str | int]:
    """What stages are trained from: a run that goes on must find it as it was."""
    labels = repr([sources.label_spaces[name] for name in recipe.label_spaces])
    material: dict[str, str | int] = {
        "base": bundle.base.revision,
        "encoder": bundle.encoder,
        "labels": hashlib.sha256(labels.encode()).hexdigest(),
    }
    for file in recipe.development:
        material[f"contents of {file.path.as_posix()}"] = fingerprint(sources.data / file.path)
    for stage, corpora in stages:
        if stage.demonstrations.shown and SHIPPED_POOL in stage.demonstrations.pools:
            material["shipped demonstrations"] = edition_of(sources.shipped, bundle.encoder)
        for file, corpus in zip(stage.corpora, corpora, strict=True):
            name = file.path.as_posix()
            material[f"contents of {name}"] = bundle.data[name]
            # Which are left out depends on the splits that are held out.
            material[f"number of training dialogues in {name}"] = len(corpus.dialogues)
    return material


def _bundle(recipe: Recipe, revision: str, sources: Sources, encoder: str) -> Bundle:
    predicts = any(stage.tasks.prediction for stage in recipe.stages)
    files = {f.path for stage in recipe.stages for f in stage.corpora}
    return Bundle(
        format=1,
        name=recipe.name,
        version=recipe.version,
        base=Base(name=recipe.base, revision=revision),
        template=recipe.template,
        window=Window(lowest=recipe.window.lowest, highest=recipe.window.highest),
        max_tokens=recipe.max_tokens,
        demonstrations=recipe.stages[-1].demonstrations.shown if recipe.stages else 0,
        tasks=("main", "prediction") if predicts else ("main",),
        label_spaces={n: trained_labels(sources.label_spaces[n]) for n in recipe.label_spaces},
        encoder=encoder,
        data={path.as_posix(): fingerprint(sources.data / path) for path in sorted(files)},
        code_version=version("instructerc"),
    )
