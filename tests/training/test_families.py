"""Every family of models, in miniature: trained, merged, and read by the vLLM of the service.

The models are random, with weights so large that what attends to what decides the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, LlamaConfig, OPTConfig, Qwen3Config

from service.conversation.calibration import Temperature
from service.conversation.dialogue import Demonstration, Line
from service.conversation.labels import LabelSpace
from service.conversation.prediction import prediction_from_scores
from service.conversation.prompts.tokens import fit, verbalizer_ids
from service.decoding.bundle import load_bundle, read_bundle
from service.decoding.engine import Priority
from service.decoding.in_process import EngineOptions, start_engine
from service.decoding.scoring import plan_reading, score_labels
from service.decoding.tokenizer import Tokenizer
from tests.training.conftest import HELD_OUT_TALKS, RECIPE, TALKS, WriteBase
from training import finetune
from training.merge import merge
from training.mixing import Sources
from training.recipe import Recipe

# Of a logit, on average; the logits' standard deviation is 1.6. Merged weights are rounded to eight
# bits: 0.004 to 0.017 (Llama) were measured, and 0.17 to 0.48 when half of the change was lost.
ROUNDED = 0.03
# Of a label's probability, at most. vLLM computes in bfloat16 but for its head: 0.004 to 0.013 were
# measured.
SERVED = 0.02

# Heads of 32 numbers, the smallest that vLLM's attention takes on a CPU.
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
}
# Key and value are shared by the two heads, as in the large models of these families.
GATED: dict[str, Any] = SIZES | {
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "initializer_range": 0.2,
}
OPT = OPTConfig(**SIZES, word_embed_proj_dim=64, ffn_dim=128, init_std=0.2, dropout=0.0)


@dataclass(frozen=True, slots=True)
class Family:
    """A model, and what is adapted in it: nothing where all parameters are trained."""

    config: Any
    targets: tuple[str, ...]


FAMILIES = {
    "llama": Family(LlamaConfig(**GATED), ("q_proj", "k_proj", "v_proj")),
    "qwen": Family(
        Qwen3Config(**GATED, head_dim=32, tie_word_embeddings=True), ("q_proj", "k_proj", "v_proj")
    ),
    "bloom": Family(
        BloomConfig(hidden_size=64, n_layer=2, n_head=2, initializer_range=0.2),
        ("query_key_value",),
    ),
    "opt": Family(OPT, ("q_proj", "k_proj", "v_proj")),
    "opt, all parameters": Family(OPT, ()),
}
# Each starts vLLM, which takes 15 to 25 seconds. OPT with an adapter is the shipped bundle, which
# tests/decoding reads.
SERVED_FAMILIES = [name for name in FAMILIES if name != "opt"]


@dataclass(frozen=True, slots=True)
class Trained:
    """Folders: the base, what training wrote, and the bundle of both."""

    base: Path
    run: Path
    bundle: Path


@pytest.fixture(scope="module")
def trained(
    request: pytest.FixtureRequest,
    write_base: WriteBase,
    sources: Sources,
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("family")
    made = Trained(folder / "base", folder / "run", folder / "bundle")
    write_base(made.base, 1, family.config)
    changed = {
        "label_spaces": ["meld", "unified"],
        "window": {"lowest": 4, "highest": 6},
        "max_tokens": 250,
        "lora": {"rank": 4, "alpha": 16, "targets": family.targets} if family.targets else None,
        "stages": [RECIPE["stages"][1] | {"learning_rate": 0.02}],
    }
    finetune.train(Recipe.model_validate(RECIPE | changed), made.base, sources, "words@1", made.run)
    merge(made.run, made.base, made.bundle)
    return made


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and the tokens that begin its answers."""

    space: LabelSpace
    ids: list[int]
    first: list[int]


@pytest.fixture
def asked(trained: Trained, tokenizer: Tokenizer, spaces: Mapping[str, LabelSpace]) -> list[Asked]:
    """What the bundle's template asks after each line of a long dialogue, in each label space.

    Up to six lines of history, every third prompt with a demonstration: 50 to 120 tokens.
    """
    bundle = read_bundle(trained.bundle)
    template = bundle.prompt_template
    said = [turn for talk in (*TALKS.values(), *HELD_OUT_TALKS.values()) for turn in talk]
    lines = [Line(len(speaker) % 2, text) for speaker, text, _ in said]
    made = []
    for name in bundle.label_spaces:
        space = spaces[name]
        shown = [Demonstration("d", name, space.labels[0].name, "Hurrah, a ferry!")]
        first = [verbalizer_ids(template, v, tokenizer.encode)[0] for v in space.verbalizers]
        for end in range(1, len(lines) + 1):
            prompt = fit(
                template,
                space,
                bundle.history_window,
                lines[:end],
                [] if end % 3 else shown,
                encode=tokenizer.encode,
                begin=tokenizer.begin,
                limit=bundle.max_tokens - 1,
            )
            made.append(Asked(space, prompt.ids, first))
    assert len({len(a.ids) for a in made}) > len(made) / 2
    return made


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def answered(model: Any, asked: Sequence[Asked]) -> torch.Tensor:
    """The logits after each prompt, shape (prompts, vocabulary)."""
    with torch.no_grad():
        return torch.stack(
            [model(torch.tensor([a.ids]), logits_to_keep=1).logits[0, 0] for a in asked]
        )


def probabilities(model: Any, asked: Sequence[Asked]) -> list[np.ndarray]:
    """Over each prompt's labels, by their first tokens."""
    logits = answered(model, asked)
    return [torch.softmax(row[a.first], -1).numpy() for row, a in zip(logits, asked, strict=True)]


@pytest.mark.parametrize("trained", FAMILIES, indirect=True)
def test_bundle_answers_as_what_was_trained(trained: Trained, asked: list[Asked]) -> None:
    """Base and adapter in single precision, or the weights that were trained whole."""
    before = answered(load(trained.base), asked)
    if (trained.run / "adapter_model.safetensors").exists():
        model = peft.PeftModel.from_pretrained(load(trained.base), str(trained.run)).eval()
    else:
        model = load(trained.run)
    after = answered(model, asked)

    merged = answered(load(trained.bundle), asked)

    assert (merged - after).abs().mean() < ROUNDED
    # And that is little beside what training changed.
    assert (after - before).abs().mean() > 4 * ROUNDED


@pytest.mark.parametrize("trained", SERVED_FAMILIES, indirect=True)
async def test_vllm_reads_the_bundle_as_transformers_does(
    trained: Trained,
    asked: list[Asked],
    tokenizer: Tokenizer,
    spaces: Mapping[str, LabelSpace],
) -> None:
    """Every label's probability, the beginnings of prompts from vLLM's cache; and so the label."""
    bundle = load_bundle(trained.bundle, spaces)
    expected = probabilities(load(trained.bundle), asked)
    before = probabilities(load(trained.base), asked)
    found, cached = [], []
    engine = await start_engine(
        trained.bundle, max_tokens=bundle.max_tokens, options=EngineOptions()
    )
    try:
        for a in asked:
            reading = plan_reading(a.space, bundle.prompt_template, tokenizer.encode, tokenizer.end)
            scores = await score_labels(engine, reading, a.ids, Priority.INTERACTIVE)
            prediction = prediction_from_scores(a.space, scores.log_probabilities, Temperature())
            found.append(np.asarray(prediction.probabilities))
            cached.append(scores.cached_tokens)
    finally:
        await engine.close()

    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=SERVED)
        second, best = np.sort(theirs)[-2:]
        assert ours.argmax() == theirs.argmax() or best - second <= SERVED
    assert max(cached) >= 64
    # The tolerance is small beside what training changed, and most prompts have a clear answer.
    changes = [np.abs(one - other).max() for one, other in zip(expected, before, strict=True)]
    assert max(changes) > 4 * SERVED
    assert np.median([np.diff(np.sort(p))[-1] for p in expected]) > 4 * SERVED
