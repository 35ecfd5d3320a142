"""A space in which utterances of one emotion are near each other, whatever they are about.

Sentence vectors are near by topic. A small head on the vectors of an utterance and of those before
it is trained so that the nearest share the label (retrieval by emotion: E-ICL, arXiv 2406.02642),
by the supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, equation 2) and by label
anchors, one vector for each label to be near to.
"""

from typing import TYPE_CHECKING

import numpy as np

from training.arrays import Floats, Ints, Vectors
from training.discriminative.fitting import on_one_thread

if TYPE_CHECKING:
    import torch

_WIDTH = 256
_DIMENSIONS = 128
_TEMPERATURE = 0.1  # of cosines
_CONTRASTIVE = 0.5  # weight beside the anchors' loss
_RATE = 1e-3
_DECAY = 0.05
_AT_ONCE = 512
_EPOCHS = 12
_NEIGHBOURS = 64
_VOTE_TEMPERATURE = 0.05  # of cosines: how much more the nearest of them count


def voted(known: Vectors, gold: Ints, asked: Vectors, shares: Floats, seed: int) -> Floats:
    """The vote of the nearest 64 known utterances in a space that is learnt from all of them.

    Args:
        known, asked: shape (utterances, dimensions), the vectors of utterances with their context.
        gold: shape (known utterances,), places in the label space.
        shares: shape (labels,), each label's share of the known utterances; half a neighbour's
            worth of them is in each vote.
        seed: draws the head's first weights, its dropout and the batches.

    Returns:
        Shape (asked utterances, labels).
    """
    head = _fitted(known, gold, len(shares), seed)
    memory, cues = (_placed(head, vectors) for vectors in (known, asked))
    count = min(_NEIGHBOURS, len(memory))
    votes = np.tile(0.5 * shares, (len(asked), 1))
    for row, cue in zip(votes, cues, strict=True):
        cosines = memory @ cue
        nearest = np.argpartition(-cosines, count - 1)[:count]
        weights = np.exp((cosines[nearest] - cosines[nearest].max()) / _VOTE_TEMPERATURE)
        np.add.at(row, gold[nearest], weights)
    probabilities: Floats = votes / votes.sum(1, keepdims=True)
    return probabilities


def _fitted(vectors: Vectors, gold: Ints, labels: int, seed: int) -> "torch.nn.Module":
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy, normalize

    examples, targets = torch.from_numpy(vectors), torch.from_numpy(gold)
    with on_one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(vectors.shape[1], _WIDTH),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(_WIDTH, _DIMENSIONS),
        )
        anchors = nn.Parameter(0.1 * torch.randn(labels, _DIMENSIONS))
        optimizer = torch.optim.AdamW(
            [*head.parameters(), anchors], lr=_RATE, weight_decay=_DECAY, fused=True
        )
        for _ in range(_EPOCHS):
            for batch in torch.split(torch.randperm(len(examples)), _AT_ONCE):
                places = normalize(head(examples[batch]), dim=-1)
                near_anchors = places @ normalize(anchors, dim=-1).T / _TEMPERATURE
                loss = cross_entropy(near_anchors, targets[batch])
                loss = loss + _CONTRASTIVE * _contrastive_loss(places, targets[batch])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
    return head.eval()


def _contrastive_loss(places: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
    """Mean over a batch of how unlikely a place makes those of its own label, in nats."""
    import torch

    itself = torch.eye(len(places), dtype=torch.bool)
    cosines = (places @ places.T / _TEMPERATURE).masked_fill(itself, -torch.inf)
    log_shares = (cosines - cosines.logsumexp(1, keepdim=True)).masked_fill(itself, 0.0)
    alike = (targets[:, None] == targets) & ~itself
    return -((log_shares * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


def _placed(head: "torch.nn.Module", vectors: Vectors) -> Vectors:
    """Unit vectors in the space, shape (utterances, 128)."""
    import torch
    from torch.nn.functional import normalize

    with on_one_thread(), torch.no_grad():
        placed: Vectors = normalize(head(torch.from_numpy(vectors)), dim=-1).numpy()
    return placed
