"""How a stage is optimized: loss, rate, decay, dropout, seed and precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import cos, pi
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook
from transformers import AutoModelForCausalLM
from transformers.models.opt.modeling_opt import OPTDecoderLayer

from tests.training.conftest import RECIPE
from tests.training.finetuning.conftest import of_one_stage
from training.finetuning import finetune
from training.finetuning.merge import merge
from training.finetuning.model_inspection import ADAPTER_WEIGHTS
from training.finetuning.packed_loss import packed_loss
from training.finetuning.packing import Row, collate, pack
from training.finetuning.trainer import Run
from training.mixture.sources import Sources
from training.mixture.tasks import PromptSettings, main_task
from training.recipe_files import load_recipe


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


@contextmanager
def learning_rates() -> Iterator[list[float]]:
    """Grows by one at each step of an optimizer."""
    rates: list[float] = []

    def note(optimizer: Optimizer, *_: object) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    with register_optimizer_step_pre_hook(note):
        yield rates


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
        trained[decay] = load_file(out / ADAPTER_WEIGHTS)

    plain, decayed = trained[0.0], trained[5.0]
    for name, weights in plain.items():
        ratio = float(decayed[name].norm() / weights.norm())
        if ".lora_A." in name:  # the other factor begins at zero, and grows
            assert 0.7 < ratio < 0.9
        elif name.endswith("norm.weight"):
            assert ratio == pytest.approx(1, abs=0.01)


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


def test_same_seed_gives_the_same_adapter(
    adapter: Path, tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """Bit for bit, on one machine; another seed gives another."""
    recipe = load_recipe(recipe_file)
    finetune.train(recipe, tiny_base, sources, tmp_path / "same")
    other = recipe.model_copy(update={"seed": recipe.seed + 1})
    finetune.train(other, tiny_base, sources, tmp_path / "other")

    first, same, different = (
        load_file(folder / ADAPTER_WEIGHTS)
        for folder in (adapter, tmp_path / "same", tmp_path / "other")
    )
    assert first.keys() == same.keys() == different.keys()
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[n], different[n]) for n in first if ".lora_" in n)


@contextmanager
def layers_computed() -> Iterator[list[object]]:
    """Grows by one each time that a layer begins to be computed for a gradient."""
    computed: list[object] = []

    def note(module: object, *_: object) -> None:
        if isinstance(module, OPTDecoderLayer) and torch.is_grad_enabled():
            computed.append(module)

    with register_module_forward_pre_hook(note):
        yield computed


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
    trained, passes = [], []
    for checkpointed in (False, True):
        out = tmp_path / f"{checkpointed}"
        changed["gradient_checkpointing"] = checkpointed
        with layers_computed() as computed:
            finetune.train(recipe.model_copy(update=changed), tiny_base, sources, out)
        passes.append(len(computed))
        trained.append(load_file(out / (ADAPTER_WEIGHTS if adapted else "model.safetensors")))

    assert passes[1] == 2 * passes[0] > 0
    assert trained[0].keys() == trained[1].keys()
    assert all(trained[0][name].equal(trained[1][name]) for name in trained[0])
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    before = loss(base, sources, recipe_file, prompts)
    merge(out, tiny_base, tmp_path / "bundle")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "bundle", dtype=torch.float32)
    assert loss(merged, sources, recipe_file, prompts) < 0.9 * before


@contextmanager
def adapter_inputs() -> Iterator[set[torch.dtype]]:
    """The types of what the adapter's own layers get."""
    types: set[torch.dtype] = set()

    def note(layer: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if getattr(layer, "out_features", None) == RECIPE["lora"]["rank"]:
            types.add(inputs[0].dtype)

    with register_module_forward_pre_hook(note):
        yield types


@pytest.mark.parametrize(
    ("compute", "expected"),
    [("bfloat16", {torch.bfloat16, torch.float32}), ("float32", {torch.float32})],
)
def test_an_adapter_reads_what_the_layer_before_it_has_computed(
    compute: str,
    expected: set[torch.dtype],
    tiny_base: Path,
    sources: Sources,
    recipe_file: Path,
    tmp_path: Path,
) -> None:
    """Not cast to the type of the adapter's weights and back; norms are float32 in either case."""
    recipe = of_one_stage(recipe_file, epochs=1)
    changed = recipe.model_copy(update={"dtype": compute, "compute": compute})

    with adapter_inputs() as types:
        finetune.train(changed, tiny_base, sources, tmp_path / "out")

    assert types == expected


def test_compiled_layers_learn_what_others_do(
    tiny_base: Path, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    """But for rounding; all layers and rows of all lengths share their code."""
    recipe = of_one_stage(recipe_file, epochs=2).model_copy(update={"compute": "float32"})
    learned = []
    for compiled in (False, True):
        counters["stats"].clear()
        out = tmp_path / f"{compiled}"
        finetune.train(recipe, tiny_base, sources, out, compiled=compiled)
        weights = load_file(out / ADAPTER_WEIGHTS)
        # They begin as zeros.
        learned.append(torch.cat([weights[n].flatten() for n in sorted(weights) if ".lora_B" in n]))
    graphs = counters["stats"]["unique_graphs"]

    # The first layer's input needs no gradient, that of the others does, and scores need none.
    assert 0 < graphs <= 3
    eager, fused = learned
    assert torch.cosine_similarity(eager, fused, dim=0) > 0.99


def test_compiling_without_a_compiler_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, sources: Sources, recipe_file: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(ValueError, match="needs no-such-compiler: install it"):
        finetune.train(
            load_recipe(recipe_file), tmp_path / "none", sources, tmp_path / "out", compiled=True
        )
