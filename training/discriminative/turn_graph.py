"""Relational graph attention over turns, whose edges come from the past alone.

A turn is a node; an edge leads to it from itself and from each of the turns before it, within a
window. An edge's relation is whose turn it comes from, the same speaker's or another's, and how far
back that is, as in SKAIG (Li et al. 2021, Findings of EMNLP, 2021.findings-emnlp.104) and GraphCFC
(Li et al. 2022, arXiv 2207.12261), which have edges from the future and, the one, knowledge, the
other, audio and video, too. Relations have weights of their own (Schlichtkrull et al. 2017, arXiv
1703.06103; for dialogues Ghosal et al. 2019, arXiv 1908.11540), attention adds what a relation is
to what its ends are (Shaw et al. 2018, arXiv 1803.02155; Busbridge et al. 2019, arXiv 1904.05811),
and that past edges suffice is from DAG-ERC (Shen et al. 2021, arXiv 2105.12907).
"""

import torch
from torch import nn
from torch.nn.functional import gelu

from training.discriminative.batches import Batch
from training.discriminative.past import ago, same_speaker, seen

_WIDTH = 128
_HEADS = 4
_LAYERS = 2
_WINDOW = 10  # earlier turns with an edge to a turn; two layers reach twice as far
_DROPOUT = 0.4
_WHOSE = 3  # the turn itself, the same speaker's, another's


class TurnGraph(nn.Module):
    """Logits of labels from a turn and what the graph brings it."""

    def __init__(self, dimensions: int, labels: int) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.Dropout(_DROPOUT), nn.Linear(dimensions, _WIDTH), nn.GELU(), nn.LayerNorm(_WIDTH)
        )
        self.layers = nn.ModuleList(_RelationalAttention() for _ in range(_LAYERS))
        width = (1 + _LAYERS) * _WIDTH
        self.say = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(_DROPOUT), nn.Linear(width, labels)
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        """Shape (dialogues, turns, labels)."""
        length = batch.speakers.shape[1]
        whose = torch.where(same_speaker(batch.speakers), 1, 2)
        whose = whose.masked_fill(torch.eye(length, dtype=torch.bool), 0)
        nodes = [self.read(batch.vectors)]
        for layer in self.layers:
            nodes.append(layer(nodes[-1], whose))
        logits: torch.Tensor = self.say(torch.cat(nodes, dim=-1))
        return logits


class _RelationalAttention(nn.Module):
    """A layer: what earlier turns send, by relation, weighed by the ends and the relation."""

    def __init__(self) -> None:
        super().__init__()
        self.send = nn.Linear(_WIDTH, (1 + _WHOSE) * _WIDTH)  # keys, and values by relation
        self.ask = nn.Linear(_WIDTH, _WIDTH)
        self.relation = nn.Parameter(torch.zeros(_HEADS, _WIDTH // _HEADS, _WHOSE * (_WINDOW + 1)))
        self.norm = nn.LayerNorm(_WIDTH)

    def forward(self, nodes: torch.Tensor, whose: torch.Tensor) -> torch.Tensor:
        """What the nodes become.

        Args:
            nodes: shape (dialogues, turns, features).
            whose: a relation's first part, shape (dialogues, turns, earlier turns).
        """
        length = nodes.shape[1]
        keys, *values = map(_by_head, self.send(nodes).chunk(1 + _WHOSE, dim=-1))
        asked = _by_head(self.ask(nodes))
        relations = whose * (_WINDOW + 1) + ago(length).clamp(0, _WINDOW)
        by_relation = (asked @ self.relation).gather(
            -1, relations.unsqueeze(1).expand(-1, _HEADS, -1, -1)
        )
        scores = (asked @ keys.transpose(-1, -2) + by_relation) / keys.shape[-1] ** 0.5
        shares = scores.masked_fill(~seen(length, _WINDOW), -torch.inf).softmax(-1)
        got = torch.zeros_like(asked)
        for relation, sent in enumerate(values):
            got = got + (shares * (whose == relation).unsqueeze(1)) @ sent
        updated: torch.Tensor = self.norm(nodes + gelu(got.transpose(1, 2).flatten(2)))
        return updated


def _by_head(features: torch.Tensor) -> torch.Tensor:
    """From shape (dialogues, turns, features) to (dialogues, heads, turns, features of a head)."""
    return features.view(*features.shape[:2], _HEADS, -1).transpose(1, 2)
