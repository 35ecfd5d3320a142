"""Chooses how a model reads rows: of several examples where it computes the same as for each alone.

A row of several examples is told apart by positions and by a mask for each pair of tokens.
Attention heeds them. A convolution or a recurrence runs along the row, out of one example into the
next, and a model may make positions of its own.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING

import numpy as np

from service.decoding.precision import ComputeType
from service.failures import first_line
from training.finetuning.packed_loss import logits_at
from training.finetuning.packing import collate, pack
from training.finetuning.processes import is_first_process, of_first_process
from training.finetuning.row_attention import RowAttention
from training.mixture.tasks import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

# Tokens of an example, and of what it shares with another; in blocks a row is then of several.
_PART, _LONG_PART = 8, 40
# Distances of logits as a share of their spread. Other neighbours in the row: attention that heeds
# its mask gives the very same numbers, experts that are computed for many tokens at once others by
# 3e-7, and layers without attention were seen to give others by 0.0002 or more. A row of its own:
# in bfloat16 up to 0.04 by rounding, 0.8 or more by positions or a window of the model's own.
_HEEDED, _ROUNDED = 1e-5, 0.1


def agree_on_attention(causal: "PreTrainedModel", compute: ComputeType) -> RowAttention:
    """Choose how a model attends within rows, and set it, alike in all processes.

    The first one chooses: of a model that is to be sharded, the others may hold no weights yet.

    Args:
        compute: what the model is to compute in.
    """
    own = choose_attention(causal, compute) if is_first_process() else RowAttention.ALONE
    attention = of_first_process(own)
    if takes_positions(causal):
        attention.set_in(causal)
    return attention


def choose_attention(causal: "PreTrainedModel", compute: ComputeType) -> RowAttention:
    """The first of BLOCKS, DENSE and ALONE that the model is right with, where it lies.

    Args:
        compute: what the model is to compute in.
    """
    if not takes_positions(causal):
        return RowAttention.ALONE
    if may_attend_in_blocks(causal, causal.device) and trains_in_blocks(causal, compute):
        return RowAttention.BLOCKS
    return RowAttention.DENSE if reads_trees(causal) else RowAttention.ALONE


def takes_positions(causal: "PreTrainedModel") -> bool:
    """Whether the model is told each token's position; one with ALiBi makes its own."""
    known = "position_ids" in signature(causal.forward).parameters
    return known and not getattr(causal.config, "alibi", False)


def may_attend_in_blocks(causal: "PreTrainedModel", device: "torch.device") -> bool:
    """Whether to try it: on a GPU, with a model that takes FlexAttention's masks.

    Args:
        device: where the model lies; not yet on a GPU if its weights are to be sharded.
    """
    return device.type == "cuda" and bool(causal._supports_flex_attn)


def reads_trees(causal: "PreTrainedModel", attention: RowAttention = RowAttention.DENSE) -> bool:
    """Whether examples can share rows; random tokens tell, the same ones each time.

    Args:
        attention: that is set in the model afterwards, but for a model without positions.
    """
    if not takes_positions(causal):
        return False
    part = _LONG_PART if attention is RowAttention.BLOCKS else _PART
    own, *others = _examples(causal.config.get_text_config().vocab_size, part)
    with _answering(causal):
        RowAttention.ALONE.set_in(causal)
        alone = _logits(causal, [own], RowAttention.ALONE)
        attention.set_in(causal)
        among, elsewhere = (
            _logits(causal, [*some, own], attention) for some in (others[:2], others[2:])
        )
    leaks, moves = _distance(among, elsewhere), _distance(among, alone)
    reads = leaks <= _HEEDED and moves <= _ROUNDED
    if not reads:
        log.info(
            "%s attention: examples share no rows: %.2g by others in it, %.2g by it",
            *(attention.value, leaks, moves),
        )
    return reads


def trains_in_blocks(causal: "PreTrainedModel", compute: ComputeType) -> bool:
    """Whether rows are read in blocks, and a step of training is taken on them."""
    import torch

    device = causal.device
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=compute == "bfloat16"):
            if not reads_trees(causal, RowAttention.BLOCKS):
                return False
            _take_step(causal)
    except Exception as error:  # those of compilers have no common root
        log.warning("attention in blocks fails here, and is not used: %s", first_line(error))
        return False
    return True


def _take_step(causal: "PreTrainedModel") -> None:
    """Compute what a step of training would, in blocks; gradients and random numbers stay.

    Raises:
        ValueError: the model drops attention weights.
    """
    import torch

    parameter = next((each for each in causal.parameters() if each.requires_grad), None)
    devices = [causal.device] if causal.device.type == "cuda" else []
    training = causal.training
    examples = _examples(causal.config.get_text_config().vocab_size, _LONG_PART)
    causal.train()
    try:
        with torch.random.fork_rng(devices), torch.enable_grad():
            logits = _logits(causal, examples, RowAttention.BLOCKS)
            if parameter is not None:
                torch.autograd.grad(logits.sum(), parameter, allow_unused=True)
    finally:
        causal.train(training)


def _examples(vocabulary: int, part: int) -> list[Example]:
    """One, and two pairs to stand before it: the second of a pair begins as it does."""
    drawn = np.random.default_rng(0).integers(vocabulary, size=(6, part)).tolist()
    begin, *rest = (tuple(part) for part in drawn)
    beginnings: list[tuple[tuple[int, ...], ...]] = [(begin,), (), (begin,), (), (begin,)]
    return [
        Example((*shared, part[:1]), part[1:])
        for shared, part in zip(beginnings, rest, strict=True)
    ]


@contextmanager
def _answering(causal: "PreTrainedModel") -> Iterator[None]:
    """Without dropout and gradients, for a while."""
    import torch

    training = causal.training
    causal.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        causal.train(training)


def _logits(
    causal: "PreTrainedModel", examples: list[Example], attention: RowAttention
) -> "torch.Tensor":
    """After each of the last example's own tokens but one, shape (tokens, vocabulary)."""
    (row,) = pack(examples, sum(sum(map(len, e.segments)) + len(e.target) for e in examples))
    batch = collate([row], attention)
    return logits_at(causal, causal, batch, batch.predicting[batch.first[-1] :]).cpu()


def _distance(one: "torch.Tensor", other: "torch.Tensor") -> float:
    """The largest root mean square of a token's, as a share of its logits' deviation."""
    return float(((one - other).pow(2).mean(-1).sqrt() / other.std(-1)).max())
