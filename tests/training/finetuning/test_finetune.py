"""A whole run, small: two stages on a few dialogues, from a recipe to an adapter."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import cos, pi
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from transformers import AutoModelForCausalLM
from transformers.models.opt.modeling_opt import OPTDecoderLayer

from service.decoding.bundle import Base, Window, load_bundle, read_bundle, trained_labels
from training.arrays import Floats
from training.datasets.errors import DatasetError
from training.finetuning import finetune
from training.finetuning.bases import base_revision
from training.finetuning.label_probabilities import development_scores, probabilities
from training.finetuning.merge import merge
from training.finetuning.packed_loss import packed_loss
from training.finetuning.packing import Row, collate, pack
from training.finetuning.run_record import RunRecord, open_record, read_record
from training.finetuning.trainer import Run, run_stage
from training.mixture.mixing import held_out, mix
from training.mixture.pools import Pools
from training.mixture.pseudo_labels import Ask, pseudo_labelled
from training.mixture.sources import Sources
from training.mixture.tasks import LabelledExample, PromptSettings, main_task, prompt_settings
from training.recipe import PseudoLabels, Recipe, RecipeError, Stage, Tasks
from training.recipe_files import load_recipe, recipe_path

WEIGHTS = "adapter_model.safetensors"


def loss(model: Any, sources: Sources, recipe_file: Path, prompts: PromptSettings) -> float:
    """The mean loss on the targets of the dialogues that both stages train."""
    (corpus,) = sources.corpora(load_recipe(recipe_file).stages[1].corpora)
    examples = [
        labelled.example
        for dialogue in corpus.dialogues
        for labelled in main_task(dialogue, corpus.label_space, prompts, {})
    ]
    with torch.no_grad():
        batch = collate(list(pack(examples, 448)))
        return float(packed_loss(model.eval(), model, batch, {"main": 1.0}))


def test_training_lowers_the_loss(
    adapter: Path,
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    prompts: PromptSettings,
) -> None:
    """Of the answers to the dialogues that it trained on, and not by a little."""
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    before = loss(base, sources, recipe_file, prompts)
    trained = peft.PeftModel.from_pretrained(base, str(adapter))

    assert loss(trained.get_base_model(), sources, recipe_file, prompts) < 0.9 * before


def of_one_stage(recipe_file: Path, **changes: Any) -> Recipe:
    """The recipe's second stage alone, changed, in steps enough for a schedule to show."""
    recipe = load_recipe(recipe_file)
    stage = recipe.stages[1].model_copy(update={"epochs": 6} | changes)
    return recipe.model_copy(update={"stages": (stage,), "label_spaces": ("meld", "unified")})


@contextmanager
def learning_rates() -> Iterator[list[float]]:
    """Grows by one at each step of an optimizer."""
    rates: list[float] = []

    def note(optimizer: Optimizer, *_: object) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    hook = register_optimizer_step_pre_hook(note)
    try:
        yield rates
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ({}, lambda done: 1 - done),
        ({"schedule": "cosine"}, lambda done: (1 + cos(pi * done)) / 2),
        ({"schedule": "cosine", "floor": 0.5}, lambda done: 0.5 + (1 + cos(pi * done)) / 4),
    ],
    ids=["linear", "cosine", "floor"],
)
def test_learning_rate_follows_the_stages_schedule(
    schedule: dict[str, Any],
    share: Callable[[float], float],
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
) -> None:
    """From the peak, after the warm-up, which is a step here, by the share of the steps done."""
    recipe = of_one_stage(recipe_file, **schedule)

    with learning_rates() as rates:
        finetune.train(recipe, tiny_base, sources, tmp_path / "run")

    warm_up, *rest = rates
    assert warm_up == 0
    assert len(rest) > 5
    peak = recipe.stages[0].learning_rate
    assert rest == pytest.approx([peak * share(n / len(rest)) for n in range(len(rest))])


def test_weight_decay_shrinks_all_but_biases_and_norms(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """By the learning rate times itself at each step: a fifth in all here."""
    trained = {}
    for decay in (0.0, 5.0):
        out = tmp_path / str(decay)
        recipe = of_one_stage(recipe_file, weight_decay=decay)
        finetune.train(recipe, tiny_base, sources, out)
        trained[decay] = load_file(out / WEIGHTS)

    plain, decayed = trained[0.0], trained[5.0]
    for name, weights in plain.items():
        ratio = float(decayed[name].norm() / weights.norm())
        if ".lora_A." in name:  # the other factor begins at zero, and grows
            assert 0.7 < ratio < 0.9
        elif name.endswith("norm.weight"):
            assert ratio == pytest.approx(1, abs=0.01)


class _Stopped(Exception):
    """Training would begin now."""


@pytest.fixture
def about_to_train(
    monkeypatch: pytest.MonkeyPatch,
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
) -> Callable[..., tuple[list[Row], Run]]:
    """What a stage with changes is about to train on, and with what."""

    def prepared(**changes: Any) -> tuple[list[Row], Run]:
        given: list[tuple[list[Row], Run]] = []

        def stopped(_: Recipe, __: Stage, rows: Sequence[Row], run: Run) -> None:
            given.append((list(rows), run))
            raise _Stopped

        monkeypatch.setattr(finetune, "run_stage", stopped)
        recipe = of_one_stage(recipe_file, **changes)
        with pytest.raises(_Stopped):
            finetune.train(recipe, tiny_base, sources, tmp_path / f"{len(changes)}")
        return given[0]

    return prepared


def test_dropout_drops_hidden_states_in_training_alone(
    about_to_train: Callable[..., tuple[list[Row], Run]],
) -> None:
    """The base itself has none."""
    losses = {}
    for changes in ({}, {"dropout": 0.5}):
        rows, run = about_to_train(**changes)
        batch = collate(rows)
        for training in (True, False):
            run.model.train(training)
            with torch.no_grad():
                losses[*changes, training] = [
                    float(packed_loss(run.model, run.causal, batch, {"main": 1.0}))
                    for _ in range(2)
                ]

    for case, (one, other) in losses.items():
        assert (one == other) == (case != ("dropout", True)), case
    assert losses["dropout", False] == losses[False,]


def test_distillation_teaches_a_share_of_what_the_teacher_says(
    about_to_train: Callable[..., tuple[list[Row], Run]],
) -> None:
    """Beside each label's own share, which is the rest: a distribution for every answer."""
    plain, _ = about_to_train()
    distilled, _ = about_to_train(distillation=0.4)

    assert not any(len(row.soft) for row in plain)
    for row in distilled:
        for first in row.first:
            of_answer = row.soft[:, 0] == first
            shares, tokens = row.shares[of_answer], row.soft[of_answer, 1]
            own = shares[tokens == row.targets[first]]
            assert len(shares) > 1
            assert shares.sum() == pytest.approx(1, abs=1e-6)
            assert 0.6 - 1e-6 <= own.item() < 1


def test_adapter_says_what_a_bundle_of_it_will_be(
    adapter: Path, tiny_base: Path, sources: Sources
) -> None:
    """The bundle's description, complete but for its calibration."""
    bundle = read_bundle(adapter)

    assert (bundle.name, bundle.version, bundle.template) == ("tiny", "9", "v2")
    assert bundle.base == Base(name="tiny-base", revision=base_revision(tiny_base))
    assert bundle.window == Window(lowest=2, highest=3)
    assert (bundle.max_tokens, bundle.demonstrations) == (150, 1)
    assert bundle.languages == ("en",)
    assert bundle.encoder == "words@1"
    assert bundle.label_spaces == {
        name: trained_labels(sources.label_spaces[name]) for name in ("meld", "emorynlp", "unified")
    }
    assert bundle.data == {
        name: hashlib.sha256((sources.data / name).read_bytes()).hexdigest()
        for name in ("others.jsonl", "talks.jsonl")
    }


def test_adapter_keeps_its_recipe(adapter: Path, recipe_file: Path) -> None:
    """A run can be repeated from what it left."""
    record = json.loads((adapter / "training.json").read_text())

    assert record["recipe"] == load_recipe(recipe_file).model_dump(mode="json")


def test_agreement_of_demonstrations_is_on_record_for_each_split(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path
) -> None:
    """The share of shown utterances whose nearest demonstration has their own label.

    Over all epochs of a stage, by label space; of the held-out split too; nothing where no
    demonstration is shown.
    """
    recipe = load_recipe(recipe_file)
    stage = recipe.stages[1]
    settings = prompt_settings(recipe, tiny_base)
    corpora, development = (sources.corpora(f) for f in (stage.corpora, recipe.development))
    pools = Pools(sources, corpora, recipe.seed, development)
    trained = [
        example
        for epoch in range(stage.epochs)
        for example in mix(corpora, stage, pools, sources, settings, recipe.seed, epoch)
    ]
    asked = held_out(development, stage, pools, sources, settings)

    def share(examples: Sequence[LabelledExample], space: str) -> float:
        same = [
            example.label == example.demonstrations[0].label
            for example in examples
            if example.demonstrations and example.label_space.name == space
        ]
        return sum(same) / len(same)

    record = json.loads((adapter / "training.json").read_text())["agreement"]
    second, meld = record.pop("second"), "meld, with demonstrations"
    assert record == {
        "first": {},
        "meld, without demonstrations": {},
        meld: {"meld": pytest.approx(share(asked[meld], "meld"), abs=1e-4)},
    }
    assert second == {
        space: pytest.approx(share(trained, space), abs=1e-4) for space in ("meld", "unified")
    }
    assert 0 < second["meld"] < 1


def test_run_goes_on_where_its_record_lacks_a_key_with_a_default(
    adapter: Path, recipe_file: Path, tmp_path: Path
) -> None:
    """A run outlives the version of the package that began it, unless its record has no scores.

    Another value is another run.
    """
    record = json.loads((adapter / "training.json").read_text())
    del record["recipe"]["stages"][0]["weight_decay"]
    (tmp_path / "training.json").write_text(json.dumps(record))
    recipe = load_recipe(recipe_file)
    first = recipe.stages[0].model_copy(update={"weight_decay": 0.1})

    other = recipe.model_copy(update={"stages": (first, recipe.stages[1])})
    material = record["material"]
    whole = RunRecord.model_validate_json((adapter / "training.json").read_bytes())
    assert open_record(recipe, material, record["compute"], tmp_path) == whole
    assert open_record(recipe, {"base": "1"}, "float32", tmp_path / "other").material
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        open_record(other, material, record["compute"], tmp_path)
    del record["development"][0]["scores"]
    (tmp_path / "training.json").write_text(json.dumps(record))
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        open_record(recipe, material, record["compute"], tmp_path)


def test_bundle_shows_no_demonstrations_where_training_showed_none(
    recipe_file: Path, tiny_base: Path, sources: Sources, tmp_path: Path
) -> None:
    """However many there would be."""
    recipe = load_recipe(recipe_file)
    none = recipe.stages[0].demonstrations.model_copy(update={"count": 1, "share": 0.0})
    stage = recipe.stages[0].model_copy(update={"demonstrations": none})
    changed = recipe.model_copy(update={"stages": (stage,)})

    finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert read_bundle(tmp_path / "run").demonstrations == 0


def test_adapter_names_its_base_and_no_folder(adapter: Path, tiny_base: Path) -> None:
    """Where it was trained is nobody's business, and nowhere else."""
    written = {path.name: path.read_text() for path in adapter.glob("*.json")}

    assert json.loads(written["adapter_config.json"])["base_model_name_or_path"] == "tiny-base"
    assert not [name for name, text in written.items() if str(tiny_base.parent) in text]


def test_shipped_adapter_is_of_the_shipped_recipe() -> None:
    """What made it is here."""
    folder = Path(__file__).parents[3] / "data" / "adapters" / "erc-mini"
    recipe = load_recipe(recipe_path("erc-mini"))

    config = json.loads((folder / "adapter_config.json").read_text())

    assert read_record(folder).recipe == recipe
    assert config["base_model_name_or_path"] == recipe.base


def test_development_split_is_scored_once_an_epoch(adapter: Path) -> None:
    """With demonstrations and without, in the corpus's own labels, in percent."""
    rows = json.loads((adapter / "training.json").read_text())["development"]

    assert [row["stage"] for row in rows] == ["first", "second", "second"]
    assert [round(row["epoch"]) for row in rows] == [1, 1, 2]
    for row in rows:
        assert row["scores"].keys() == {
            "meld, without demonstrations",
            "meld, with demonstrations",
        }
        assert all(0 <= score <= 100 for score in row["scores"].values())


def test_best_epoch_is_kept_where_the_recipe_says_so(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """By the development split, not by chance of the last step; the record says which it was."""
    recipe = load_recipe(recipe_file)
    first, second = recipe.stages
    longer = second.model_copy(update={"keep": "best", "epochs": 6, "learning_rate": 0.03})
    changed = recipe.model_copy(update={"stages": (first, longer)})

    finetune.train(changed, tiny_base, sources, tmp_path / "run")

    record = json.loads((tmp_path / "run" / "training.json").read_text())
    means = {
        row["epoch"]: sum(row["scores"].values())
        for row in record["development"]
        if row["stage"] == "second"
    }
    assert record["kept"] == {"first": 1, "second": max(means, key=lambda epoch: means[epoch])}
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "run")).get_base_model()
    settings = prompt_settings(changed, tiny_base)
    development = sources.corpora(recipe.development)
    pools = Pools(sources, sources.corpora(longer.corpora), recipe.seed, development)
    held = held_out(development, longer, pools, sources, settings)
    scores = development_scores(model.eval(), model, held, settings, record["compute"])
    assert sum(scores.values()) == pytest.approx(max(means.values()), abs=0.02)


def test_adapter_holds_what_the_recipe_trains_and_nothing_else(adapter: Path) -> None:
    """Low-rank changes of the linear layers, their biases, whole layer norms; no word table."""
    weights = load_file(adapter / WEIGHTS)

    norms = {name for name in weights if "_layer_norm." in name}
    low_rank = {name for name in weights if ".lora_A." in name or ".lora_B." in name}
    biases = {name for name in weights if name.endswith(".bias")} - norms
    assert weights.keys() == norms | low_rank | biases
    # Two layers of six linear ones.
    assert (len(low_rank), len(biases)) == (24, 12)
    assert all(weights[name].abs().max() > 0 for name in low_rank | biases)
    # And of two norms.
    gains = [weights[name] for name in norms if name.endswith(".weight")]
    assert len(gains) == 4
    assert all((gain - 1).abs().max() > 0 for gain in gains)


def test_same_seed_gives_the_same_adapter(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Bit for bit, on one machine; another seed gives another."""
    recipe = load_recipe(recipe_file)
    finetune.train(recipe, tiny_base, sources, tmp_path / "same")
    other = recipe.model_copy(update={"seed": recipe.seed + 1})
    finetune.train(other, tiny_base, sources, tmp_path / "other")

    first, same, different = (
        load_file(folder / WEIGHTS) for folder in (adapter, tmp_path / "same", tmp_path / "other")
    )
    assert first.keys() == same.keys() == different.keys()
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[n], different[n]) for n in first if ".lora_" in n)


def test_adapter_is_rounded_where_the_recipe_says_so(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Once it is finished, to half the bytes; it is merged as any other."""
    recipe = load_recipe(recipe_file)
    assert recipe.lora is not None
    lora = recipe.lora.model_copy(update={"stored_as": "bfloat16"})
    rounded = tmp_path / "rounded"
    finetune.train(recipe.model_copy(update={"lora": lora}), tiny_base, sources, rounded)

    whole, half = load_file(adapter / WEIGHTS), load_file(rounded / WEIGHTS)
    assert whole.keys() == half.keys()
    assert {tensor.dtype for tensor in half.values()} == {torch.bfloat16}
    assert all(torch.equal(whole[name].to(torch.bfloat16), half[name]) for name in whole)
    merge(rounded, tiny_base, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "model.safetensors").is_file()


def test_stage_of_several_runs_keeps_the_mean_of_them(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """They begin at the same weights, each has a seed of its own, and the mean is scored too."""
    recipe = load_recipe(recipe_file)
    stage = recipe.stages[0]
    once = recipe.model_copy(update={"lora": None, "stages": (stage,)})
    for seed in (7, 1007):
        alone = once.model_copy(update={"seed": seed})
        finetune.train(alone, tiny_base, sources, tmp_path / str(seed))
    twice = once.model_copy(update={"stages": (stage.model_copy(update={"runs": 2}),)})

    finetune.train(twice, tiny_base, sources, tmp_path / "mean")

    first, second, mean = (
        load_file(tmp_path / run / "model.safetensors") for run in ("7", "1007", "mean")
    )
    assert first.keys() == second.keys() == mean.keys()
    assert not all(torch.equal(first[name], second[name]) for name in first)
    for name in first:
        torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2)
    record = json.loads((tmp_path / "mean" / "training.json").read_text())
    assert [row["stage"] for row in record["development"]] == ["first/1", "first/2", "first"]
    assert record["finished"] == ["first/1", "first/2", "first"]


def test_stage_of_several_runs_goes_on_after_the_last_that_was_finished(
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the adapter's own first weights, which are drawn: the runs' must be the same ones."""
    recipe = load_recipe(recipe_file)
    stages = (recipe.stages[0].model_copy(update={"runs": 2}),)
    twice = recipe.model_copy(update={"stages": stages})
    finetune.train(twice, tiny_base, sources, tmp_path / "whole")
    begun: list[Path] = []

    def killed_in_the_second(recipe: Recipe, stage: Stage, rows: Sequence[Row], run: Run) -> None:
        begun.append(run.checkpoints)
        if len(begun) == 2:
            raise KeyboardInterrupt
        run_stage(recipe, stage, rows, run)

    monkeypatch.setattr(finetune, "run_stage", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        finetune.train(twice, tiny_base, sources, tmp_path / "killed")
    finetune.train(twice, tiny_base, sources, tmp_path / "killed")

    assert [path.name for path in begun] == ["1", "2", "2"]
    whole, killed = (load_file(tmp_path / run / WEIGHTS) for run in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_stage_is_taught_by_the_runs_of_an_earlier_one(
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Together: what is likely is the mean of what they say, each with the weights that it kept."""
    recipe = load_recipe(recipe_file)
    first = recipe.stages[0].model_copy(update={"runs": 2})
    taught = recipe.stages[0].model_copy(
        update={"name": "taught", "pseudo_labels": PseudoLabels(teacher="first")}
    )
    changed = recipe.model_copy(update={"stages": (first, taught)})
    asked: list[tuple[Sequence[LabelledExample], list[list[Floats]]]] = []
    answered: list[list[Floats]] = []

    def noted(*arguments: Any) -> list[Floats]:
        answered.append(probabilities(*arguments))
        return answered[-1]

    def asking(corpora: Any, stage: Stage, settings: PromptSettings, ask: Ask) -> Any:
        def once(examples: Sequence[LabelledExample]) -> Sequence[Floats]:
            answered.clear()
            means = ask(examples)
            for mean, rows in zip(means, zip(*answered, strict=True), strict=True):
                assert mean == pytest.approx(sum(rows) / 2)
                assert mean.sum() == pytest.approx(1)
            asked.append((examples, list(answered)))
            return means

        return pseudo_labelled(corpora, stage, settings, once)

    monkeypatch.setattr(finetune, "probabilities", noted)
    monkeypatch.setattr(finetune, "pseudo_labelled", asking)
    finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert {e.label_space.name for examples, _ in asked for e in examples} == {"meld", "emorynlp"}
    for _, (one, two) in asked:
        assert not all(a == pytest.approx(b) for a, b in zip(one, two, strict=True))


@contextmanager
def layers_computed() -> Iterator[list[object]]:
    """Grows by one each time that a layer begins to be computed for a gradient."""
    computed: list[object] = []

    def note(module: object, *_: object) -> None:
        if isinstance(module, OPTDecoderLayer) and torch.is_grad_enabled():
            computed.append(module)

    hook = register_module_forward_pre_hook(note)
    try:
        yield computed
    finally:
        hook.remove()


@pytest.mark.parametrize("adapted", [False, True], ids=["all-parameters", "adapter"])
def test_checkpointed_training_in_bfloat16_learns_the_same(
    adapted: bool,
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    prompts: PromptSettings,
    tmp_path: Path,
) -> None:
    """Bit for bit, with each layer computed twice; and the loss falls."""
    recipe = load_recipe(recipe_file)
    changed: dict[str, object] = {"dtype": "bfloat16", "compute": "bfloat16"}
    if not adapted:
        changed["lora"] = None
    found, passes = [], []
    for checkpointed in (False, True):
        out = tmp_path / f"{checkpointed}"
        changed["gradient_checkpointing"] = checkpointed
        with layers_computed() as computed:
            finetune.train(recipe.model_copy(update=changed), tiny_base, sources, out)
        passes.append(len(computed))
        found.append(load_file(out / (WEIGHTS if adapted else "model.safetensors")))

    assert passes[1] == 2 * passes[0] > 0
    assert found[0].keys() == found[1].keys()
    assert all(found[0][name].equal(found[1][name]) for name in found[0])
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    before = loss(base, sources, recipe_file, prompts)
    merge(out, tiny_base, tmp_path / "bundle")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "bundle", dtype=torch.float32)
    assert loss(merged, sources, recipe_file, prompts) < 0.9 * before


@pytest.mark.parametrize("adapted", [False, True], ids=["all-parameters", "adapter"])
def test_recipe_without_stages_makes_a_bundle_of_the_base(
    adapted: bool, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Zero-shot: the base's own weights, rounded to what is served, under the recipe's prompts."""
    changed = {"stages": ()} | ({} if adapted else {"lora": None})
    recipe = load_recipe(recipe_file).model_copy(update=changed)

    finetune.train(recipe, tiny_base, sources, tmp_path / "run")
    merge(tmp_path / "run", tiny_base, tmp_path / "bundle")

    base, found = (load_file(f / "model.safetensors") for f in (tiny_base, tmp_path / "bundle"))
    assert base.keys() == found.keys()
    assert all(found[name].equal(base[name].bfloat16()) for name in base)
    bundle = load_bundle(tmp_path / "bundle", sources.label_spaces)
    assert (bundle.demonstrations, bundle.data) == (0, {})
    assert tuple(bundle.label_spaces) == recipe.label_spaces


@pytest.mark.parametrize("label_space", ["iemocap", "moods"])
def test_label_space_that_no_stage_trains_is_refused(
    label_space: str, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """The bundle would promise it; nothing is trained or written."""
    recipe = load_recipe(recipe_file)
    changed = recipe.model_copy(update={"label_spaces": ("meld", label_space)})

    with pytest.raises(RecipeError, match=f"tiny: label_spaces: no stage trains {label_space}"):
        finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_labels_that_no_stage_asks_for_are_refused(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """A corpus's own where it trains in unified ones alone; all where only speakers are learnt."""
    recipe = load_recipe(recipe_file)
    (stage,) = recipe.stages[1:]
    for changes, untrained in (
        ({"own": 0.0, "unified": 1.0}, "meld"),
        ({"tasks": Tasks(main=0, prediction=1)}, "meld, unified"),
    ):
        stages = (stage.model_copy(update=changes),)
        changed = recipe.model_copy(update={"label_spaces": ("meld", "unified"), "stages": stages})
        with pytest.raises(RecipeError, match=f"no stage trains {untrained}$"):
            finetune.train(changed, tiny_base, sources, tmp_path / "run")


def test_split_in_labels_that_the_bundle_will_not_have_is_refused(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Before it is trained, not when it is to be scored."""
    recipe = load_recipe(recipe_file)
    others = recipe.stages[0].corpora[1]
    update = {"label_spaces": ("meld",), "stages": recipe.stages[1:], "development": (others,)}

    with pytest.raises(RecipeError, match=r"others\.jsonl is to be scored, and none of its labels"):
        finetune.train(recipe.model_copy(update=update), tiny_base, sources, tmp_path / "run")


def test_prompts_without_room_for_an_utterance_are_refused_before_training(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file).model_copy(update={"max_tokens": 20})

    with pytest.raises(RecipeError, match=r"max_tokens: 20: too few for the main task of meld"):
        finetune.train(recipe, tiny_base, sources, tmp_path / "run")


def test_run_goes_on_from_what_it_was_begun_with(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """With another base, other data or another split held out it is another run."""
    recipe = load_recipe(recipe_file)
    done, data = tmp_path / "done", tmp_path / "data"
    shutil.copytree(adapter, done)
    shutil.copytree(sources.data, data)
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    weights = load_file(base / "model.safetensors")
    save_file(
        {name: weight + 1 for name, weight in weights.items()},
        base / "model.safetensors",
        metadata={"format": "pt"},
    )

    def refusal(base: Path, recipe: Recipe = recipe) -> str:
        with pytest.raises(RecipeError) as refused:
            finetune.train(recipe, base, replace(sources, data=data), done)
        return str(refused.value)

    finetune.train(recipe, tiny_base, replace(sources, data=data), done)
    assert f"{done}: was begun with {base_revision(tiny_base)} as the base" in refusal(base)
    rows = (data / "talks.jsonl").read_text().splitlines()
    (data / "held_out.jsonl").write_text(rows[0])
    assert "as the contents of held_out.jsonl" in refusal(tiny_base)
    (data / "held_out.jsonl").write_text((sources.data / "held_out.jsonl").read_text())
    (data / "talks.jsonl").write_text("\n".join(rows) + "\n\n")
    assert "as the contents of talks.jsonl" in refusal(tiny_base)


def test_corpus_that_cannot_be_read_is_named_before_anything_is_written(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Also the last stage's, which would come hours later."""
    recipe = load_recipe(recipe_file)
    (corpus,) = recipe.stages[1].corpora
    missing = corpus.model_copy(update={"path": Path("none.jsonl")})
    last = recipe.stages[1].model_copy(update={"corpora": (missing,)})
    changed = recipe.model_copy(update={"stages": (recipe.stages[0], last)})

    with pytest.raises(DatasetError, match=r"none\.jsonl: No such file"):
        finetune.train(changed, tiny_base, sources, tmp_path / "run")

    assert not (tmp_path / "run").exists()


def test_what_is_held_out_for_the_test_does_not_train_either(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """The split is named in the recipe; until it is there, nothing can be left out for it."""
    recipe = load_recipe(recipe_file)
    talks = recipe.stages[1].corpora[0]
    absent = talks.model_copy(update={"path": Path("absent.jsonl")})

    def refusal(*test: Any) -> str:
        changed = recipe.model_copy(update={"test": test, "max_tokens": 10_000})
        with pytest.raises((DatasetError, RecipeError)) as refused:
            finetune.train(changed, tiny_base, sources, tmp_path / "run")
        return str(refused.value)

    assert "talks.jsonl: is a training corpus, and held out" in refusal(absent, talks)
    assert "max_tokens" in refusal(absent)  # the next thing that is wrong with it
