"""A packed row computes, for each of its examples, what the model computes for it alone."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from service.conversation.dialogue import Dialogue, HistoryWindow, Utterance
from service.conversation.labels import LabelSpace
from service.conversation.prompts import TEMPLATES
from service.decoding.tokenizer import Tokenizer
from training.finetuning.packed_loss import logits_at, packed_loss
from training.finetuning.packing import Batch, Row, batches, collate, pack
from training.finetuning.row_attention import RowAttention
from training.mixture.tasks import Example, PromptSettings, main_task

WORDS = 40
EXACT = 1e-5  # losses are taken in single precision


@pytest.fixture(
    scope="module", params=["opt", "llama"], ids=["positions-learned", "positions-rotary"]
)
def model(request: pytest.FixtureRequest) -> Any:
    """Two layers of 32 numbers, random and large, so that wrong attention shows.

    In double precision, so that nothing else does.
    """
    torch.manual_seed(3)
    sizes = {
        "vocab_size": WORDS,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    if request.param == "opt":
        made = OPTForCausalLM(
            OPTConfig(
                **sizes,
                word_embed_proj_dim=32,
                ffn_dim=64,
                do_layer_norm_before=False,
                dropout=0.0,
                init_std=1.0,
            )
        )
    else:
        made = LlamaForCausalLM(
            LlamaConfig(**sizes, intermediate_size=64, num_key_value_heads=2, initializer_range=0.5)
        )
    return made.double().eval()


# Few segments, so that examples share some; the tokens of a segment, then of the prompts.
SEGMENTS = st.lists(
    st.lists(st.integers(0, WORDS - 1), max_size=6).map(tuple), min_size=2, max_size=5
)


@st.composite
def example_lists(draw: st.DrawFn) -> list[Example]:
    segments = draw(SEGMENTS)
    made = []
    for _ in range(draw(st.integers(1, 7))):
        start = draw(st.lists(st.sampled_from(segments), max_size=5))
        tokens = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=4).map(tuple)
        made.append(Example((*start, draw(tokens)), draw(tokens)))
    return made


def alone(model: Any, example: Example) -> torch.Tensor:
    """The logits that predict each token of the prompt and target but the first, run by itself."""
    ids = [token for segment in example.segments for token in segment] + [*example.target]
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0, :-1]
    return logits


def of_targets(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """The logits that predict targets' tokens, each example run by itself."""
    return torch.cat([alone(model, e)[-len(e.target) :] for e in examples])


def packed(model: Any, batch: Batch) -> torch.Tensor:
    """The same, from packed rows."""
    with torch.no_grad():
        logits: torch.Tensor = model(
            input_ids=batch.ids, attention_mask=batch.visible, position_ids=batch.positions
        ).logits
    return logits.flatten(0, 1)[batch.predicting]


def dialogue_examples(
    spaces: Mapping[str, LabelSpace], tokenizer: Tokenizer, template: str, turns: int
) -> list[Example]:
    """The main task of a dialogue, its tokens folded into a small vocabulary."""
    texts = tuple(
        Utterance(f"S{n % 3}", f"This is line {n}, said by {n % 3}.", "joy") for n in range(turns)
    )
    prompts = PromptSettings(TEMPLATES[template], HistoryWindow(2, 4), tokenizer, 10_000)
    return [
        Example(
            tuple(tuple(token % WORDS for token in s) for s in labelled.example.segments),
            tuple(token % WORDS for token in labelled.example.target),
        )
        for labelled in main_task(Dialogue("d", texts), spaces["meld"], prompts, {})
    ]


@settings(max_examples=40)
@given(examples=example_lists(), row_tokens=st.integers(1, 60))
def test_packed_logits_are_those_of_each_example_alone(
    model: Any, examples: list[Example], row_tokens: int
) -> None:
    """Whatever they share, however many rows they take, and beside padding."""
    batch = collate(list(pack(examples, row_tokens)))

    expected = of_targets(model, examples)

    assert batch.targets.tolist() == [token for e in examples for token in e.target]
    assert (packed(model, batch) - expected).abs().max() < 1e-6


@settings(max_examples=20)
@given(examples=example_lists())
def test_model_that_counts_positions_itself_reads_one_example_a_row(
    examples: list[Example],
) -> None:
    """BLOOM takes neither positions nor a mask of its own for each token.

    Its own distances between tokens are in single precision.
    """
    torch.manual_seed(3)
    config = BloomConfig(
        vocab_size=WORDS, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.5
    )
    model = BloomForCausalLM(config).double().eval()
    batch = collate(list(pack(examples, 0)), RowAttention.ALONE)

    with torch.no_grad():
        logits = model(input_ids=batch.ids, attention_mask=batch.visible).logits
    predicted = logits.flatten(0, 1)[batch.predicting]

    assert (predicted - of_targets(model, examples)).abs().max() < EXACT


def test_such_a_model_is_given_no_tree() -> None:
    rows = list(pack([Example(((1,), (2,)), (3,)), Example(((1,), (4,)), (5,))], 60))

    with pytest.raises(ValueError, match="reads one example a row"):
        collate(rows, RowAttention.ALONE)


@settings(max_examples=20)
@given(examples=example_lists(), row_tokens=st.integers(1, 60), alpha=st.floats(0.1, 2))
def test_tasks_losses_are_means_of_their_own(
    model: Any, examples: list[Example], row_tokens: int, alpha: float
) -> None:
    """L_main + alpha L_pred: a task does not count for more because it has more tokens."""
    mixed = [replace(e, task=2 * (n % 2)) for n, e in enumerate(examples)]
    batch = collate(list(pack(mixed, row_tokens)))

    loss = packed_loss(model, model, batch, {"main": 1.0, "prediction": alpha, "speaker": 9.0})

    expected = 0.0
    for task, weight in ((0, 1.0), (2, alpha)):
        of_task = [e for e in mixed if e.task == task]
        if of_task:
            targets = torch.tensor([token for e in of_task for token in e.target])
            expected += weight * cross_entropy(of_targets(model, of_task), targets).item()
    assert loss.item() == pytest.approx(expected, abs=EXACT)


def test_no_number_of_a_step_is_waited_for(model: Any) -> None:
    """On the meta device there are none: a GPU is given the next work while it does this one."""
    elsewhere = deepcopy(model).to("meta")
    soft = ((1, 0.5), (2, 0.5))
    mixed = [Example(((1, 2, 3), (4, 5)), (6, 7), task=2 * n, soft=soft) for n in range(2)]
    batch = collate(list(pack(mixed, 60)))

    loss = packed_loss(elsewhere, elsewhere, batch, {"main": 1.0, "prediction": 0.5}, 0.1)
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.is_meta


def test_only_what_is_asked_passes_through_the_head(model: Any) -> None:
    """A vocabulary is wide, and most tokens are asked nothing."""
    batch = collate(list(pack([Example(((1, 2, 3), (4, 5)), (6,))], 60)))
    seen: list[torch.Size] = []
    head = model.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, inputs, output: seen.append(output.shape))

    predicted = logits_at(model, model, batch, batch.predicting)
    hook.remove()
    whole = model(input_ids=torch.tensor([[1, 2, 3, 4, 5, 6]])).logits

    assert seen == [(1, WORDS)]
    assert predicted.shape == (1, WORDS)
    assert whole.shape == (1, 6, WORDS)  # and afterwards it is as it was


@settings(max_examples=20)
@given(examples=example_lists(), row_tokens=st.integers(1, 60))
def test_packed_loss_is_the_mean_over_the_targets_tokens(
    model: Any, examples: list[Example], row_tokens: int
) -> None:
    """Each counts once, and nothing else does."""
    batch = collate(list(pack(examples, row_tokens)))
    targets = torch.tensor([token for e in examples for token in e.target])

    expected = cross_entropy(of_targets(model, examples), targets)

    with torch.no_grad():
        assert packed_loss(model, model, batch, {"main": 1.0}).item() == pytest.approx(
            expected.item(), abs=EXACT
        )


@settings(max_examples=20)
@given(examples=example_lists(), row_tokens=st.integers(1, 60), share=st.floats(0, 1))
def test_loss_of_a_soft_target_is_the_cross_entropy_with_its_shares(
    model: Any, examples: list[Example], row_tokens: int, share: float
) -> None:
    """Of its first token, in every other example; the other tokens are as they were."""
    some = [
        replace(e, soft=((1, share), (2, 1 - share))) if n % 2 else e
        for n, e in enumerate(examples)
    ]
    batch = collate(list(pack(some, row_tokens)))

    with torch.no_grad():
        loss = packed_loss(model, model, batch, {"main": 1.0}).item()

    expected, log_probabilities = 0.0, iter(of_targets(model, examples).log_softmax(-1))
    for example in some:
        for place, token in enumerate(example.target):
            row = next(log_probabilities)
            likely = example.soft if example.soft and not place else ((token, 1.0),)
            expected -= sum(part * row[each].item() for each, part in likely)
    assert loss == pytest.approx(expected / sum(len(e.target) for e in some), abs=EXACT)


@settings(max_examples=20)
@given(examples=example_lists(), row_tokens=st.integers(20, 60))
def test_prompt_loss_is_that_of_the_prompts_own_tokens(
    model: Any, examples: list[Example], row_tokens: int
) -> None:
    """A token predicts the next of its segment; what examples share counts once a row."""
    rows = list(pack(examples, row_tokens))
    losses: list[float] = []
    remaining = iter(examples)
    for row in rows:
        counted: set[object] = set()
        for number in range(len(row.first)):
            example = next(remaining)
            each = cross_entropy(
                alone(model, example),
                torch.tensor([*[t for s in example.segments for t in s], *example.target])[1:],
                reduction="none",
            ).tolist()
            at = 0
            for depth, segment in enumerate(example.segments):
                last = depth == len(example.segments) - 1
                length = len(segment) + (len(example.target) if last else 0)
                node = number if last else example.segments[: depth + 1]
                if node not in counted:
                    losses += each[at : at + max(length - 1, 0)]
                counted.add(node)
                at += length
    batch = collate(rows)
    assert len(batch.prompt) == len(losses) <= 256

    with torch.no_grad():
        loss = packed_loss(model, model, batch, {"main": 1.0}, 0.5) - packed_loss(
            model, model, batch, {"main": 1.0}
        )

    assert loss.item() == pytest.approx(0.5 * float(np.mean(losses)), abs=EXACT)


@pytest.mark.parametrize("template", ["v2", "instructerc-v1"])
def test_packed_dialogue_computes_what_its_prompts_do(
    template: str, model: Any, spaces: Mapping[str, LabelSpace], tokenizer: Tokenizer
) -> None:
    """Both templates: one that shares prefixes and one that shares nothing."""
    examples = [
        Example(tuple(s[-9:] for s in e.segments), e.target)
        for e in dialogue_examples(spaces, tokenizer, template, 8)
    ]
    rows = list(pack(examples, 120))

    logits = packed(model, collate(rows))

    assert (logits - of_targets(model, examples)).abs().max() < 1e-6


def test_dialogue_takes_a_fraction_of_its_prompts_tokens(
    spaces: Mapping[str, LabelSpace], tokenizer: Tokenizer
) -> None:
    """v2's turns share instruction and history; that is what packing is for."""
    examples = dialogue_examples(spaces, tokenizer, "v2", 5)

    (row,) = pack(examples, 10_000)

    (static, *lines, cue), target = examples[-1].segments, examples[-1].target
    assert len(row.ids) == len(static) + sum(map(len, lines)) + 5 * (len(cue) + len(target))


@given(example_lists(), st.integers(1, 60))
def test_row_is_never_longer_than_asked_unless_one_example_is(
    examples: list[Example], row_tokens: int
) -> None:
    for row in pack(examples, row_tokens):
        assert len(row.ids) <= row_tokens or len(row.first) == 1


@given(example_lists(), st.integers(1, 60))
def test_examples_stay_in_their_order(examples: list[Example], row_tokens: int) -> None:
    """`first` finds each example's first target token, within a row and across a batch."""
    rows = list(pack(examples, row_tokens))
    batch = collate(rows)

    by_row = [int(row.targets[at]) for row in rows for at in row.first]

    assert by_row == [e.target[0] for e in examples]
    assert batch.targets[batch.first].tolist() == by_row
    assert (batch.ids.flatten()[batch.predicting[batch.first]]).tolist() == [
        e.segments[-1][-1] for e in examples
    ]


def row_of(length: int) -> Row:
    """A row of one example."""
    (row,) = pack([Example(((1,) * (length - 1),), (2,))], length)
    return row


def test_padding_sees_itself_and_is_seen_by_nothing() -> None:
    """A token that saw nothing would turn its row into NaN."""
    batch = collate([row_of(5), row_of(3)])

    assert batch.positions is not None
    assert batch.ids.shape == batch.positions.shape == (2, 5)
    assert batch.visible[1, 0].tolist() == [
        [True, False, False, False, False],
        [True, True, False, False, False],
        [True, True, True, False, False],
        [False, False, False, True, False],
        [False, False, False, False, True],
    ]


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(1, 100))
def test_batch_with_its_padding_is_never_longer_than_asked_unless_one_row_is(
    lengths: list[int], tokens_per_batch: int
) -> None:
    """Every row is in one batch."""
    rows = [row_of(length) for length in lengths]

    made = batches(rows, tokens_per_batch)

    for batch in made:
        padded = len(batch) * max(len(row.ids) for row in batch)
        assert padded <= tokens_per_batch or len(batch) == 1
    assert sorted(id(row) for batch in made for row in batch) == sorted(map(id, rows))


def test_rows_of_like_length_share_a_batch() -> None:
    """So that little of a batch is padding."""
    made = batches([row_of(length) for length in (30, 3, 29, 4)], 60)

    assert [[len(row.ids) for row in batch] for batch in made] == [[3, 4], [29, 30]]


@pytest.mark.parametrize(
    "example",
    [Example((), (1,)), Example(((1,), ()), (1,)), Example(((1,),), ())],
    ids=["no-segment", "empty-last-segment", "no-target"],
)
def test_example_that_predicts_nothing_is_refused(example: Example) -> None:
    with pytest.raises(ValueError, match="a last segment and a target"):
        list(pack([example], 100))


def test_no_examples_make_no_rows() -> None:
    assert list(pack([], 100)) == []
