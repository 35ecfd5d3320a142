"""Runs of every shipped recipe: trained, merged, and read by the vLLM of the service.

They have each value that a recipe varies, if not every combination of them, and are what the file
says but for what makes it large (`tests.training.miniature`): template, window, tasks, stages,
pairing, sampling, mix, schedules and adapter are its own.
"""

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from service.conversation.calibration import Temperature
from service.conversation.dialogue import Demonstration, Line
from service.conversation.labels import UNIFIED, LabelSpace
from service.conversation.prediction import prediction_from_scores
from service.conversation.prompts.tokens import fit, verbalizer_ids
from service.decoding.bundle import load_bundle, read_bundle
from service.decoding.in_process import EngineOptions, start_engine
from service.decoding.precision import EngineType
from service.decoding.scoring import plan_reading, score_labels
from service.decoding.tokenizer import Tokenizer, load_tokenizer
from service.priority import Priority
from tests.training.miniature import (
    FAMILIES,
    Miniature,
    covering,
    label_space_of,
    miniatures,
    sentences,
    write_base,
    write_corpora,
)
from training.arrays import Vectors
from training.finetuning import finetune
from training.finetuning.merge import merge
from training.finetuning.selection import worth
from training.mixture.sources import Sources
from training.recipe import Recipe, Stage

# Of a logit, on average; the logits' standard deviation is 1.6 or more. Merged weights are rounded
# to eight bits: 0.0005 to 0.01 were measured.
ROUNDED = 0.03
# Of a question's labels the largest error of a probability, on average over the questions and at
# most, by what vLLM computes in but for its head. In native bfloat16, 0.001 to 0.006 and 0.002 to
# 0.035 were measured.
SERVED: dict[EngineType, tuple[float, float]] = {
    "bfloat16": (0.01, 0.05),
    "float32": (1e-3, 1e-3),
}


def features(run: Miniature) -> set[str]:
    """What a served bundle can be the first to get wrong."""
    recipe = run.recipe
    if not recipe.stages:
        kept = "the base as it is"
    elif recipe.lora is None:
        kept = "all parameters"
    else:
        kept = f"an adapter of {run.family}"
    names = {recipe.template, kept, *recipe.label_spaces}
    if recipe.template == "v2":  # its prompts begin alike, and each family has a cache of its own
        names.add(f"v2 on {run.family}")
    for stage in recipe.stages:
        names |= {f"{task} task" for task, weight in stage.tasks if weight}
        names |= {"demonstrations"} if stage.demonstrations.count else set()
        names |= {"mean of runs"} if stage.runs > 1 else set()
    return names


def enough_to_serve(runs: Mapping[str, Miniature]) -> list[str]:
    """Few runs that have every feature of all of them, for each starts vLLM (15 to 25 seconds)."""
    return covering({name: features(run) for name, run in runs.items()})


@dataclass(frozen=True, slots=True)
class Trained:
    """A run and its folders: the base, what training wrote, and the bundle of both."""

    recipe: Recipe
    base: Path
    run: Path
    bundle: Path


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> Iterator[None]:
    """A Trainer collects garbage as it ends: half a second each, most of it in imported modules."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def tiny_bases(spaces: Mapping[str, LabelSpace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base of each family."""
    folder = tmp_path_factory.mktemp("bases")
    for family in FAMILIES:
        write_base(folder / family, family, spaces)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tiny_bases: Path) -> Tokenizer:
    """That of all of them."""
    return load_tokenizer(tiny_bases / next(iter(FAMILIES)))


@pytest.fixture(scope="module")
def corpora(
    tmp_path_factory: pytest.TempPathFactory,
    spaces: Mapping[str, LabelSpace],
    encode: Callable[[Sequence[str]], Vectors],
) -> Sources:
    """Every file that a recipe names."""
    folder = tmp_path_factory.mktemp("corpora")
    write_corpora(folder, spaces)
    shipped = tuple(
        Demonstration(f"s-{name}", name, space.names[0], "Hurrah, our ferry is late!")
        for name, space in spaces.items()
    )
    return Sources(
        data=folder, label_spaces=spaces, shipped=shipped, encode_texts=encode, encoder="words@1"
    )


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stages that runs begin with, each trained once, as in an experiment."""
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that others learn from, each made once, by their names."""
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def trained(
    request: pytest.FixtureRequest,
    tiny_bases: Path,
    corpora: Sources,
    stages: Path,
    teachers: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Trained]:
    run = miniatures()[request.param]
    folder = tmp_path_factory.mktemp("run")
    made = Trained(run.recipe, tiny_bases / run.family, folder / "run", folder / "bundle")
    sources = corpora
    if (name := run.recipe.teacher) is not None:
        sources = replace(corpora, teacher=teachers / name)
        if not (teachers / name).exists():
            (teacher,) = (each for each in miniatures().values() if each.recipe.name == name)
            base = tiny_bases / teacher.family
            finetune.train(teacher.recipe, base, corpora, folder / "teacher")
            merge(folder / "teacher", base, teachers / name)
    finetune.train(run.recipe, made.base, sources, made.run, shared=stages)
    merge(made.run, made.base, made.bundle)
    yield made
    shutil.rmtree(folder)  # a hundred of them are a gigabyte


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the tokens that begin its answers."""

    space: LabelSpace
    ids: list[int]
    first: list[int]


@pytest.fixture
def questions(
    trained: Trained, tokenizer: Tokenizer, spaces: Mapping[str, LabelSpace]
) -> list[Asked]:
    """What the bundle is asked after each line of a dialogue: each task in each label space.

    Every third prompt has a demonstration, where the template has a place for it.
    """
    bundle = read_bundle(trained.bundle)
    template = bundle.prompt_template
    texts = islice(sentences(), 16)
    lines = [Line(n, text, "A harbour.") for n, text in zip(cycle((0, 1)), texts, strict=False)]
    made = []
    for name in bundle.label_spaces:
        space = spaces[name]
        shown = [Demonstration("d", name, space.labels[0].name, "Hurrah, a ferry!")]
        first = [verbalizer_ids(template, v, tokenizer.encode)[0] for v in space.verbalizers]
        for task in bundle.tasks:
            for end in range(1 if task == "main" else 2, len(lines) + 1):
                prompt = fit(
                    template,
                    space,
                    bundle.history_window,
                    lines[:end],
                    [] if end % 3 else shown,
                    task=task,
                    encode=tokenizer.encode,
                    starts=tokenizer.starts,
                    begin=tokenizer.begin,
                    limit=bundle.max_tokens - 1,
                )
                made.append(Asked(space, prompt.ids, first))
    return made


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def answered(model: Any, questions: Sequence[Asked]) -> torch.Tensor:
    """The logits after each prompt, shape (prompts, vocabulary)."""
    with torch.no_grad():
        return torch.stack(
            [model(torch.tensor([a.ids]), logits_to_keep=1).logits[0, 0] for a in questions]
        )


def probabilities(model: Any, questions: Sequence[Asked]) -> list[np.ndarray]:
    """Over each prompt's labels, by their first tokens."""
    logits = answered(model, questions)
    return [
        torch.softmax(row[a.first], -1).numpy() for row, a in zip(logits, questions, strict=True)
    ]


def runs_of(stage: Stage) -> list[str]:
    """The names on record that a stage was trained under."""
    if stage.runs == 1 and not stage.start_share:
        return [stage.name]
    return [f"{stage.name}/{number}" for number in range(1, stage.runs + 1)]


def held_out(recipe: Recipe) -> dict[str, bool]:
    """What is scored on the development split, and whether demonstrations are shown there."""
    last = recipe.stages[-1]
    shows = bool(last.demonstrations.count and last.demonstrations.share)
    conditions = {}
    for file in recipe.development:
        space = label_space_of(file) if last.own or not last.unified else UNIFIED
        conditions[f"{space}, without demonstrations"] = False
        conditions |= {f"{space}, with demonstrations": True} if shows else {}
        conditions |= {f"{space}, prediction": False} if last.tasks.prediction else {}
    return conditions


@pytest.mark.parametrize("trained", miniatures(), indirect=True)
def test_run_leaves_what_its_recipe_promises(trained: Trained) -> None:
    """Weights of the promised kind, and a record of every stage, epoch and condition."""
    recipe = trained.recipe
    record = json.loads((trained.run / "training.json").read_text())
    bundle = read_bundle(trained.bundle)

    weights = {path.name for path in trained.run.glob("*.safetensors")}
    assert weights == {"adapter_model.safetensors" if recipe.lora else "model.safetensors"}
    assert record["complete"]
    assert record["recipe"] == recipe.model_dump(mode="json")
    assert {stage.name for stage in recipe.stages} <= set(record["finished"])
    assert bundle.template == recipe.template
    assert bundle.label_spaces.keys() == set(recipe.label_spaces)
    assert ("prediction" in bundle.tasks) == any(s.tasks.prediction for s in recipe.stages)
    for stage in recipe.stages:
        for name in runs_of(stage):
            rows = [row for row in record["development"] if row["stage"] == name]
            assert all(row["scores"].keys() == held_out(recipe).keys() for row in rows)
            scored = [row["epoch"] for row in rows]
            assert scored[-1] == stage.epochs
            worths = {row["epoch"]: worth(row["scores"], stage) for row in rows}
            best = max(worths, key=worths.__getitem__)  # the first of equals
            assert record["kept"][name] == (best if stage.keep == "best" else scored[-1])
            # A sample may train in a single step, and its pool be the very utterance that asks.
            if stage.sample.share == 1 and stage.tasks.main:
                assert scored == list(range(1, stage.epochs + 1))
                agreement = record["agreement"][name]
                assert bool(agreement) == bool(stage.demonstrations.count)
                if stage.demonstrations.pairing == "same_label":
                    assert set(agreement.values()) == {1.0}
    if recipe.stages:
        for condition, shows in held_out(recipe).items():
            assert bool(record["agreement"][condition]) == shows


@pytest.mark.parametrize("trained", miniatures(), indirect=True)
def test_bundle_answers_as_what_was_trained(trained: Trained, questions: list[Asked]) -> None:
    """Base and adapter in single precision, or the weights that were trained whole."""
    if not trained.recipe.stages:
        base, kept = (
            load_file(folder / "model.safetensors") for folder in (trained.base, trained.bundle)
        )
        assert base.keys() == kept.keys()
        assert all(torch.equal(base[name], kept[name]) for name in base)
        return
    questions = questions[::4]  # a merge is right everywhere or nowhere
    before = answered(load(trained.base), questions)
    if trained.recipe.lora is not None:
        model = peft.PeftModel.from_pretrained(load(trained.base), str(trained.run)).eval()
    else:
        model = load(trained.run)
    after = answered(model, questions)

    merged = answered(load(trained.bundle), questions)

    assert (merged - after).abs().mean() < ROUNDED
    # And that is little beside what training changed; of a sample it may be a step or none.
    if all(stage.sample.share == 1 for stage in trained.recipe.stages):
        assert (after - before).abs().mean() > 4 * ROUNDED


@pytest.mark.parametrize("trained", enough_to_serve(miniatures()), indirect=True)
async def test_vllm_reads_the_bundle_as_transformers_does(
    trained: Trained,
    questions: list[Asked],
    tokenizer: Tokenizer,
    spaces: Mapping[str, LabelSpace],
) -> None:
    """Every label's probability, the beginnings of prompts from vLLM's cache; and so the label."""
    bundle = load_bundle(trained.bundle, spaces)
    expected = probabilities(load(trained.bundle), questions)
    before = probabilities(load(trained.base), questions)
    counts, cached = [], []
    engine = await start_engine(
        trained.bundle, max_tokens=bundle.max_tokens, options=EngineOptions()
    )
    try:
        for a in questions:
            reading = plan_reading(a.space, bundle.prompt_template, tokenizer.encode, tokenizer.end)
            scores = await score_labels(engine, reading, a.ids, Priority.INTERACTIVE)
            prediction = prediction_from_scores(a.space, scores.log_probabilities, Temperature())
            counts.append(np.asarray(prediction.probabilities))
            cached.append(scores.cached_tokens or 0)
    finally:
        await engine.close()

    usual, most = SERVED[engine.dtype]
    errors = [np.abs(ours - theirs).max() for ours, theirs in zip(counts, expected, strict=True)]
    assert np.mean(errors) <= usual
    for error, ours, theirs in zip(errors, counts, expected, strict=True):
        assert error <= most
        second, best = np.sort(theirs)[-2:]
        assert ours.argmax() == theirs.argmax() or best - second <= 2 * error
    if bundle.template == "v2":  # laid out for it
        assert max(cached) >= 64
    # The errors are small beside what training changed, and most prompts have a clear label.
    if trained.recipe.stages:
        changes = [np.abs(one - other).max() for one, other in zip(expected, before, strict=True)]
        assert max(changes) > 4 * most
    assert np.median([np.diff(np.sort(p))[-1] for p in expected]) > usual
