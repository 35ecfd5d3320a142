"""Tests whether a model computes the same for examples that share a row as for each alone.

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

from training.finetuning.packed_loss import logits_at
from training.finetuning.packing import collate, pack
from training.mixture.tasks import Example

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)

_PART = 8  # tokens of an example, and of what it shares with another
# Distances of logits as a share of their spread. Other neighbours in the row: attention that heeds
# its mask gives the very same numbers, experts that are computed for many tokens at once others by
# 3e-7, and layers without attention were seen to give others by 0.0002 or more. A row of its own:
# in bfloat16 up to 0.04 by rounding, 0.8 or more by positions or a window of the model's own.
_HEEDED, _ROUNDED = 1e-5, 0.1


def takes_positions(causal: "PreTrainedModel") -> bool:
    """Whether the model is told each token's position; one with ALiBi makes its own."""
    known = "position_ids" in signature(causal.forward).parameters
    return known and not getattr(causal.config, "alibi", False)


def reads_trees(causal: "PreTrainedModel") -> bool:
    """Whether examples can share rows; random tokens tell, the same ones each time."""
    if not takes_positions(causal):
        return False
    own, *others = _examples(causal.config.get_text_config().vocab_size)
    with _answering(causal):
        among, elsewhere = (_logits(causal, [*some, own]) for some in (others[:2], others[2:]))
        alone = _logits(causal, [own], trees=False)
    leaks, moves = _distance(among, elsewhere), _distance(among, alone)
    reads = leaks <= _HEEDED and moves <= _ROUNDED
    if not reads:
        log.info("each example gets a row: %.2g by others in it, %.2g by it", leaks, moves)
    return reads


def _examples(vocabulary: int) -> list[Example]:
    """One, and two pairs to stand before it: the second of a pair begins as it does."""
    drawn = np.random.default_rng(0).integers(vocabulary, size=(6, _PART)).tolist()
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
    causal: "PreTrainedModel", examples: list[Example], *, trees: bool = True
) -> "torch.Tensor":
    """After each of the last example's own tokens but one, shape (tokens, vocabulary)."""
    batch = collate(list(pack(examples, len(examples) * 2 * _PART)), trees)
    return logits_at(causal, causal, batch, batch.predicting[batch.first[-1] :]).cpu()


def _distance(one: "torch.Tensor", other: "torch.Tensor") -> float:
    """The largest root mean square of a token's, as a share of its logits' deviation."""
    return float(((one - other).pow(2).mean(-1).sqrt() / other.std(-1)).max())
