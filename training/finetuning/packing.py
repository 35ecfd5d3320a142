"""Packs examples that begin alike into one row, so that what they share is computed once.

The prompts of a dialogue's utterances begin with the same segments (template v2). A row holds them
as a tree: each token attends to the segments on its path from the root and to nothing else, and
its position is its depth on that path. For every example the model computes what it would compute
for the example alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from training.arrays import Ints
from training.finetuning.row_attention import RowAttention, block_mask
from training.mixture.tasks import Example, Tokens

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask

Shares = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """A tree of examples, its L tokens in an order in which parents come first.

    Attributes:
        ids, positions: shape (L,).
        segment: shape (L,), the segment that each token is of.
        order: shape (L,), the place of each token where the tree is walked depth first.
        until: shape (L,), the place that follows the last of those that attend to the token.
        predicting: shape (T,), the tokens that should predict a target's tokens.
        targets: shape (T,), what they should predict.
        tasks: shape (T,), the task that each is of.
        first: shape (examples,), where in `predicting` each example's first token is, in the
            order they were given.
        soft: shape (S, 2), where in `predicting` a token should be expected, and which token.
        shares: shape (S,), how much each of them counts.
    """

    ids: Ints
    positions: Ints
    segment: Ints
    order: Ints
    until: Ints
    predicting: Ints
    targets: Ints
    tasks: Ints
    first: Ints
    soft: Ints
    shares: Shares

    def visible(self) -> npt.NDArray[np.bool_]:
        """Shape (L, L): whether the first token attends to the second."""
        place = self.order[:, None]
        visible: npt.NDArray[np.bool_] = (self.order <= place) & (place < self.until)
        return visible

    def prompt_tokens(self) -> Ints:
        """The tokens whose successor is of the same segment."""
        same: Ints = np.flatnonzero(self.segment[1:] == self.segment[:-1])
        return same


@dataclass(slots=True)
class _Tree:
    parents: list[int] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # the position of a segment's first token
    children: dict[tuple[int, Tokens], int] = field(default_factory=dict)
    leaves: list[tuple[int, Example]] = field(default_factory=list)
    size: int = 0

    def cost(self, example: Example) -> int:
        """How many tokens the example would add."""
        node, shared = -1, 0
        for segment in example.segments[:-1]:
            child = self.children.get((node, segment))
            if child is None:
                break
            node, shared = child, shared + 1
        rest = example.segments[shared:]
        return sum(map(len, rest)) + len(example.target)

    def add(self, example: Example) -> None:
        node = -1
        for segment in example.segments[:-1]:
            child = self.children.get((node, segment))
            if child is None:
                child = self.children[node, segment] = self._append(node, segment)
            node = child
        leaf = self._append(node, (*example.segments[-1], *example.target))
        self.leaves.append((leaf, example))

    def _append(self, parent: int, tokens: Tokens) -> int:
        start = 0 if parent < 0 else self.starts[parent] + len(self.tokens[parent])
        self.parents.append(parent)
        self.tokens.append(tokens)
        self.starts.append(start)
        self.size += len(tokens)
        return len(self.tokens) - 1

    def row(self) -> Row:
        lengths = [len(tokens) for tokens in self.tokens]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        begins, ends = self._walked(lengths)
        ids = np.fromiter((t for tokens in self.tokens for t in tokens), np.int64, self.size)
        predicting: list[int] = []
        tasks: list[int] = []
        first: list[int] = []
        soft: list[tuple[int, int]] = []
        shares: list[float] = []
        for leaf, example in self.leaves:
            soft.extend((len(predicting), token) for token, _ in example.soft)
            shares.extend(share for _, share in example.soft)
            first.append(len(predicting))
            end = int(offsets[leaf + 1])
            predicting.extend(range(end - len(example.target) - 1, end - 1))
            tasks.extend([example.task] * len(example.target))
        at = np.asarray(predicting, np.int64)
        segment = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(self.size) - offsets[segment]  # from the segment's first token on
        return Row(
            ids=ids,
            positions=np.asarray(self.starts)[segment] + within,
            segment=segment,
            order=begins[segment] + within,
            until=ends[segment],
            predicting=at,
            targets=ids[at + 1],
            tasks=np.asarray(tasks, np.int64),
            first=np.asarray(first, np.int64),
            soft=np.asarray(soft, np.int64).reshape(-1, 2),
            shares=np.asarray(shares, np.float32),
        )

    def _walked(self, lengths: Sequence[int]) -> tuple[Ints, Ints]:
        """Where a walk, depth first, enters each segment, and where it has left all below it."""
        below = list(lengths)  # tokens of a segment and of those that follow it
        for node in reversed(range(len(below))):
            if self.parents[node] >= 0:
                below[self.parents[node]] += below[node]
        begins = np.zeros(len(below), np.int64)
        free = [0] * (len(below) + 1)  # the next place below each segment; the last is the roots'
        for node, parent in enumerate(self.parents):
            begins[node] = free[parent]
            free[parent] += below[node]
            free[node] = begins[node] + lengths[node]
        return begins, begins + below


def pack(examples: Iterable[Example], row_tokens: int) -> Iterator[Row]:
    """Rows of about `row_tokens` tokens at most, the examples in the order given.

    An example that is longer by itself gets a row of its own; with `row_tokens` 0 all do.

    Raises:
        ValueError: an example without segments, with an empty last segment, or without a target.
    """
    tree = _Tree()
    for example in examples:
        if not example.segments or not example.segments[-1] or not example.target:
            raise ValueError("an example needs a last segment and a target of at least one token")
        if tree.leaves and tree.size + tree.cost(example) > row_tokens:
            yield tree.row()
            tree = _Tree()
        tree.add(example)
    if tree.leaves:
        yield tree.row()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows side by side, padded to the longest, as tensors.

    Attributes:
        ids, positions: shape (rows, L); no positions where a row is one example.
        attention: what tells the examples of a row apart.
        visible: who sees whom. DENSE: Boolean, shape (rows, 1, L, L). BLOCKS: int32, shape
            (2, rows, L), `order` and `until` of each token. ALONE: Boolean, shape (rows, L), false
            for padding; each token sees those before it.
        predicting: shape (T,), indexes into the flattened (rows * L) tokens.
        targets, tasks: shape (T,).
        prompt: shape (P,), flat indexes of tokens whose successor is of the same segment.
        first: shape (examples,), indexes into `predicting`.
        soft: shape (S, 2), indexes into `predicting`, and the tokens to expect there.
        shares: shape (S,), float32.
    """

    ids: "torch.Tensor"
    positions: "torch.Tensor | None"
    attention: RowAttention
    visible: "torch.Tensor"
    predicting: "torch.Tensor"
    targets: "torch.Tensor"
    tasks: "torch.Tensor"
    prompt: "torch.Tensor"
    first: "torch.Tensor"
    soft: "torch.Tensor"
    shares: "torch.Tensor"

    def mask(self, device: "torch.device") -> "torch.Tensor | BlockMask":
        """What the model is given as its attention mask."""
        visible = self.visible.to(device)
        return block_mask(visible) if self.attention is RowAttention.BLOCKS else visible


def collate(rows: Sequence[Row], attention: RowAttention = RowAttention.DENSE) -> Batch:
    """Pad and stack rows. A padding token sees itself alone and nothing sees it.

    Raises:
        ValueError: a row of several examples, for a model that reads each alone.
    """
    import torch

    if attention is RowAttention.ALONE and any(len(row.first) > 1 for row in rows):
        raise ValueError("a model that counts positions itself reads one example a row")
    length = attention.padded(max(len(row.ids) for row in rows))
    ids = np.zeros((len(rows), length), np.int64)
    positions = np.zeros((len(rows), length), np.int64)
    predicting, targets, tasks, prompt, first, soft = [], [], [], [], [], []
    before = 0
    for number, row in enumerate(rows):
        size = len(row.ids)
        ids[number, :size] = row.ids
        positions[number, :size] = row.positions
        predicting.append(row.predicting + number * length)
        targets.append(row.targets)
        tasks.append(row.tasks)
        prompt.append(row.prompt_tokens() + number * length)
        first.append(row.first + before)
        soft.append(row.soft + np.asarray((before, 0)))
        before += len(row.predicting)

    def tensor(parts: Sequence[Ints]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate(parts))

    return Batch(
        torch.from_numpy(ids),
        None if attention is RowAttention.ALONE else torch.from_numpy(positions),
        attention,
        torch.from_numpy(_VISIBLE[attention](rows, length)),
        tensor(predicting),
        tensor(targets),
        tensor(tasks),
        tensor(prompt),
        tensor(first),
        tensor(soft),
        torch.from_numpy(np.concatenate([row.shares for row in rows])),
    )


def _alone(rows: Sequence[Row], length: int) -> npt.NDArray[np.bool_]:
    """Shape (rows, length): which tokens are no padding."""
    sizes: Ints = np.asarray([len(row.ids) for row in rows])
    there: npt.NDArray[np.bool_] = np.arange(length) < sizes[:, None]
    return there


def _pairs(rows: Sequence[Row], length: int) -> npt.NDArray[np.bool_]:
    """Shape (rows, 1, length, length): whether the first token sees the second."""
    visible = np.zeros((len(rows), 1, length, length), np.bool_)
    visible[:, :, range(length), range(length)] = True
    for number, row in enumerate(rows):
        visible[number, 0, : len(row.ids), : len(row.ids)] = row.visible()
    return visible


def _reach(rows: Sequence[Row], length: int) -> npt.NDArray[np.int32]:
    """Shape (2, rows, length): `order` and `until`, a padding token being a tree of its own."""
    places = np.arange(length, dtype=np.int32)
    reach = np.tile(np.stack([places, places + 1])[:, None], (1, len(rows), 1))
    for number, row in enumerate(rows):
        reach[:, number, : len(row.ids)] = row.order, row.until
    return reach


_VISIBLE: Mapping[RowAttention, Callable[[Sequence[Row], int], npt.NDArray[Any]]] = {
    RowAttention.ALONE: _alone,
    RowAttention.DENSE: _pairs,
    RowAttention.BLOCKS: _reach,
}


def batches(
    rows: Sequence[Row], tokens_per_batch: int, attention: RowAttention = RowAttention.DENSE
) -> list[list[Row]]:
    """Rows of like length together, each batch of about `tokens_per_batch` tokens with padding."""
    made: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        # Sorted by length: the newest row is the longest, the others are padded to it.
        padded = attention.padded(len(row.ids))
        if made and (len(made[-1]) + 1) * padded <= tokens_per_batch:
            made[-1].append(row)
        else:
            made.append([row])
    return made
