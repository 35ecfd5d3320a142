"""Attention in blocks computes what attention with a mask for each pair of tokens does.

On a CPU nothing is compiled, and torch refuses gradients, which it does have; on a GPU, tests are
of the kernels.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BloomConfig,
    FalconConfig,
    Glm4Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen3Config,
)

from tests.training.conftest import RECIPE, WriteBase
from training.finetuning import finetune, row_sharing
from training.finetuning.packed_loss import logits_at, packed_loss
from training.finetuning.packing import Batch, Row, batches, collate, pack
from training.finetuning.row_attention import RowAttention, block_mask
from training.finetuning.row_sharing import (
    choose_attention,
    may_attend_in_blocks,
    reads_trees,
    trains_in_blocks,
)
from training.mixture.sources import Sources
from training.mixture.tasks import Example
from training.recipe import Recipe

DENSE, BLOCKS, ALONE = RowAttention.DENSE, RowAttention.BLOCKS, RowAttention.ALONE
WORDS = 40
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SIZES: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
GATED: dict[str, Any] = SIZES | {"intermediate_size": 64, "num_key_value_heads": 2}
LLAMA = LlamaConfig(**GATED, initializer_range=0.5)
OPT = OPTConfig(**SIZES, word_embed_proj_dim=64, ffn_dim=64, dropout=0.0, init_std=0.5)
BERT = BertConfig(
    **SIZES,
    is_decoder=True,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.5,
)
GLM4 = Glm4Config(**GATED, head_dim=16, initializer_range=0.5)
QWEN = Qwen3Config(**GATED, head_dim=16, initializer_range=0.5)


@pytest.fixture
def gradients_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention's own, uncompiled: torch refuses them by a check of the device alone."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)


def model_of(config: PretrainedConfig) -> Any:
    """Random weights, so large that wrong attention shows."""
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(config).float().train()


def dialogues(count: int, seed: int = 0) -> list[Example]:
    """Examples of 12 utterances a dialogue: an instruction, a window of 4 to 8 lines, a cue."""
    random = Random(seed)

    def tokens(number: int) -> tuple[int, ...]:
        return tuple(random.randrange(1, WORDS) for _ in range(number))

    instruction, made = tokens(60), []
    for _ in range(count):
        lines = [tokens(random.randint(4, 20)) for _ in range(12)]
        for turn in range(12):
            begin = max(0, turn - turn % 4 - 4)
            made.append(Example((instruction, *lines[begin : turn + 1], tokens(3)), tokens(2)))
    return made


def computed(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that predict targets' tokens, and the gradients of the loss."""
    batch.attention.set_in(model)
    model.zero_grad()
    logits = logits_at(model, model, batch, batch.predicting)
    packed_loss(model, model, batch, {"main": 1.0}).backward()  # type: ignore[no-untyped-call]
    trained = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return logits.detach(), torch.cat(trained)


def furthest(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest number."""
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize(
    ("dtype", "equal"),
    [(torch.float32, 3e-5), (torch.float64, 1e-6)],
    ids=["float32", "float64"],
)
@pytest.mark.parametrize(
    "config", [LLAMA, OPT, BERT, GLM4, QWEN], ids=["llama", "opt", "bert", "glm4", "qwen"]
)
def test_logits_and_gradients_are_those_of_a_mask_for_each_pair(
    config: PretrainedConfig, dtype: torch.dtype, equal: float, gradients_on_cpu: None
) -> None:
    """On rows of other lengths, the longest more than twice what the other mask's are.

    Losses are taken in single precision, and so their gradients are.
    """
    model = model_of(config).to(dtype)
    rows = list(pack(dialogues(6), 1024))
    assert len(rows) > 1
    assert max(len(row.ids) for row in rows) > 2 * DENSE.row_tokens

    expected = computed(model, collate(rows, DENSE))
    found = computed(model, collate(rows, BLOCKS))

    assert max(furthest(*pair) for pair in zip(found, expected, strict=True)) < equal


def test_gradients_are_the_same_where_activations_are_computed_again(
    gradients_on_cpu: None,
) -> None:
    """With an adapter, through whose frozen base they come."""
    lora = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(model_of(LLAMA), lora)
    causal, batch = model.get_base_model(), collate(list(pack(dialogues(1), 1024)), BLOCKS)
    BLOCKS.set_in(causal)

    def gradients() -> torch.Tensor:
        model.zero_grad()
        packed_loss(model, causal, batch, {"main": 1.0}).backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    kept = gradients()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()

    assert furthest(gradients(), kept) < 1e-6


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(seed=st.integers(0, 99), count=st.integers(1, 3), row_tokens=st.integers(50, 700))
def test_blocks_show_what_a_mask_for_each_pair_shows(
    seed: int, count: int, row_tokens: int
) -> None:
    """In any order of examples; a block is left out only if nothing of it is to be seen."""
    examples = dialogues(count, seed)
    Random(seed).shuffle(examples)
    rows = list(pack(examples, row_tokens))
    batch = collate(rows, BLOCKS)
    length, known = batch.ids.shape[1], collate(rows, DENSE).visible
    expected = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1, 1)
    expected[..., : known.shape[-1], : known.shape[-1]] = known

    mask = block_mask(batch.visible)

    assert create_mask(mask.mask_mod, len(rows), None, length, length, "cpu").equal(expected)
    of_blocks = expected.unfold(2, 128, 128).unfold(3, 128, 128).flatten(-2).any(-1)
    assert mask.to_dense().bool().equal(of_blocks)


def test_padding_sees_itself_and_nothing_else_sees_it(gradients_on_cpu: None) -> None:
    """A row that is mostly padding has no NaN, and the very logits that it has alone."""
    model = model_of(LLAMA)
    BLOCKS.set_in(model)
    long, short = (next(pack(dialogues(1, seed), size)) for seed, size in ((0, 400), (1, 60)))
    both, alone = collate([long, short], BLOCKS), collate([short], BLOCKS)
    asked = both.predicting[len(long.predicting) :]

    with torch.no_grad():
        beside = logits_at(model, model, both, asked)
        by_itself = logits_at(model, model, alone, alone.predicting)
        everywhere = logits_at(model, model, both, torch.arange(both.ids.numel()))

    assert both.ids.shape[1] > 2 * len(short.ids)
    assert everywhere.isfinite().all()
    assert furthest(beside, by_itself) < 1e-5


def test_mask_is_made_without_waiting_for_its_numbers() -> None:
    """On the meta device there are none."""
    batch = collate(list(pack(dialogues(2), 700)), BLOCKS)

    mask: Any = batch.mask(torch.device("meta"))

    assert mask.kv_indices.is_meta
    assert mask.shape == (len(batch.ids), 1, batch.ids.shape[1], batch.ids.shape[1])


def test_long_rows_compute_fewer_tokens_an_example() -> None:
    """Dialogues share the instruction, and their turns what was said."""
    examples = dialogues(60)
    alone = sum(sum(map(len, e.segments)) + len(e.target) for e in examples) / len(examples)

    short, long = (
        sum(len(row.ids) for row in pack(examples, attention.row_tokens)) / len(examples)
        for attention in (DENSE, BLOCKS)
    )

    assert DENSE.row_tokens == 448
    assert BLOCKS.row_tokens == 2048
    assert long < 0.9 * short < 0.9 * 0.5 * alone


def row_of(length: int) -> Row:
    (row,) = pack([Example(((1,) * (length - 1),), (2,))], length)
    return row


@given(st.lists(st.integers(2, 3000), min_size=1, max_size=30), st.integers(256, 9000))
def test_few_shapes_of_batches_are_compiled_for(lengths: list[int], tokens_per_batch: int) -> None:
    """Lengths are powers of two, and no batch of several rows is longer than asked."""
    rows = [row_of(length) for length in lengths]

    made = batches(rows, tokens_per_batch, BLOCKS)

    padded = [(len(batch), max(BLOCKS.padded(len(row.ids)) for row in batch)) for batch in made]
    assert all(count == 1 or count * length <= tokens_per_batch for count, length in padded)
    assert all(length.bit_count() == 1 and length >= 256 for _, length in padded)
    assert [len(row.ids) for batch in made for row in batch] == sorted(lengths)
    longest = BLOCKS.row_tokens_in(tokens_per_batch)
    assert longest == BLOCKS.padded(longest) <= min(2048, tokens_per_batch)


def test_other_rows_are_as_long_in_batches_of_any_size() -> None:
    assert [DENSE.row_tokens_in(size) for size in (256, 4096)] == [448, 448]
    assert [ALONE.row_tokens_in(size) for size in (256, 4096)] == [0, 0]
    assert [DENSE.padded(each) for each in (5, 449)] == [5, 449]


@pytest.mark.parametrize(
    ("config", "able"),
    [
        *((each, True) for each in (LLAMA, OPT, BERT, GLM4, QWEN)),
        (BloomConfig(n_layer=1, hidden_size=32, n_head=2), False),
        (FalconConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2), False),
    ],
    ids=["llama", "opt", "bert", "glm4", "qwen", "bloom", "falcon"],
)
def test_blocks_are_for_a_gpu_and_models_that_take_them(
    config: PretrainedConfig, able: bool
) -> None:
    """On a CPU they are not even tried."""
    model = model_of(config)

    assert may_attend_in_blocks(model, CUDA) == able
    assert not may_attend_in_blocks(model, CPU)
    assert choose_attention(model, "float32") is not BLOCKS


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [LLAMA, OPT], ids=["llama", "opt"])
def test_blocks_are_tried_before_they_are_used(
    config: PretrainedConfig, compute: Any, gradients_on_cpu: None
) -> None:
    """By reading and by a step, which leaves nothing behind."""
    model = model_of(config)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    assert trains_in_blocks(model, compute)

    assert model.training
    assert torch.rand(3).equal(expected)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_they_are_not_used_where_they_fail(caplog: pytest.LogCaptureFixture) -> None:
    """As on a CPU, where torch refuses gradients; the log says why."""
    with caplog.at_level(logging.WARNING, "training"):
        assert not trains_in_blocks(model_of(LLAMA), "float32")

    assert "in blocks fails here, and is not used: FlexAttention does not support" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"attention_dropout": 0.1}, {"attention_probs_dropout_prob": 0.1}],
    ids=["llama", "bert"],
)
def test_model_that_drops_attention_weights_does_not_attend_in_blocks(
    change: Mapping[str, float], gradients_on_cpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    """In evaluation it could."""
    config = BERT if "attention_probs_dropout_prob" in change else LLAMA
    model = model_of(type(config)(**config.to_dict() | change))

    with caplog.at_level(logging.WARNING, "training"):
        assert reads_trees(model, BLOCKS)
        assert not trains_in_blocks(model, "float32")

    assert "attention with dropout is not computed in blocks" in caplog.text


def test_model_with_a_short_window_of_its_own_does_not_attend_in_blocks(
    gradients_on_cpu: None,
) -> None:
    model = model_of(MistralConfig(**GATED, sliding_window=4))

    assert not trains_in_blocks(model, "float32")


def test_run_is_trained_and_scored_in_blocks(
    write_base: WriteBase,
    sources: Sources,
    tmp_path: Path,
    gradients_on_cpu: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU: the adapter learns, each epoch is scored, and rows are as long as batches."""
    monkeypatch.setattr(row_sharing, "may_attend_in_blocks", blocks_everywhere)
    write_base(tmp_path / "base", 1, LlamaConfig(**GATED, initializer_range=0.2))
    lora = {"rank": 4, "alpha": 16, "targets": ["q_proj", "v_proj"]}
    stage = RECIPE["stages"][1] | {"epochs": 3, "tokens_per_batch": 512}
    changed = {"label_spaces": ["meld", "unified"], "lora": lora, "stages": [stage]}
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(Batch, "mask", recorded(shapes, Batch.mask))

    finetune.train(
        Recipe.model_validate(RECIPE | changed), tmp_path / "base", sources, tmp_path / "run"
    )

    assert (1, 512) in shapes
    assert {length for _, length in shapes} <= {256, 512, 1024, 2048}
    scored = json.loads((tmp_path / "run" / "training.json").read_text())["development"]
    assert [each["epoch"] for each in scored] == [1, 2, 3]
    trained = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), str(tmp_path / "run")
    )
    assert any(p.abs().max() > 0 for n, p in trained.named_parameters() if "lora_B" in n)


def blocks_everywhere(*_: Any) -> bool:
    return True


def recorded(
    shapes: list[tuple[int, ...]], mask: Callable[[Batch, torch.device], Any]
) -> Callable[[Batch, torch.device], Any]:
    def asked(batch: Batch, device: torch.device) -> Any:
        if batch.attention is BLOCKS:
            shapes.append(tuple(batch.ids.shape))
        return mask(batch, device)

    return asked


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("config", [LLAMA, OPT], ids=["llama", "opt"])
def test_kernels_compute_what_a_mask_for_each_pair_does(config: PretrainedConfig) -> None:
    """On a GPU, where blocks are chosen, for batches of several shapes."""
    model = model_of(config).to(CUDA)
    assert choose_attention(model, "float32") is BLOCKS

    for count, row_tokens in ((2, 2048), (6, 2048), (6, 300), (3, 700)):
        rows = list(pack(dialogues(count), row_tokens))
        expected = computed(model, collate(rows, DENSE))
        found = computed(model, collate(rows, BLOCKS))
        assert max(furthest(*pair) for pair in zip(found, expected, strict=True)) < 1e-3
