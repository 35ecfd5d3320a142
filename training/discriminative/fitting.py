"""Fits a discriminative model, and asks it.

A tenth of the training dialogues is kept from it. It stops when it tells their labels no better,
and goes back to where it told them best (Prechelt 1998, "Early stopping, but when?"): no other
split has a say.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from random import Random
from types import MappingProxyType

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from training.arrays import Floats
from training.discriminative.batches import batch_of, places_by_length
from training.discriminative.kinds import KINDS
from training.discriminative.speaker_states import SpeakerStates
from training.discriminative.turn_graph import TurnGraph
from training.discriminative.turns import UNLABELLED, Turns, pieces

log = logging.getLogger(__name__)

# Each made from the vectors' dimensions and how many labels there are.
_MODELS: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    dict(zip(KINDS, (SpeakerStates, TurnGraph), strict=True))
)
_RATE = 5e-4
_DECAY = 0.1
_NORM = 1.0  # of gradients, at most
_AT_ONCE = 256  # turns of a step
_EPOCHS = 60
_PATIENCE = 6  # epochs without gain
_HELD_OUT = 10  # one dialogue in so many, one at least
_FOLDS = 5
# Longer dialogues are read in pieces, for what turns weigh of each other grows with the square.
_LONGEST = 128
_BEFORE = 32


def fitted(name: str, dialogues: Sequence[Turns], labels: int, seed: int) -> nn.Module:
    """A model that has learnt the dialogues' labels; the same for the same seed.

    Where one dialogue alone has labels, that one says when to stop, too.

    Args:
        name: of `KINDS`.
        labels: how many the label space has.
    """
    known = _labelled(dialogues)
    rng = Random(seed)
    rng.shuffle(known)
    kept = max(1, len(known) // _HELD_OUT) if len(known) > 1 else 0
    held_out, known = known[:kept] or known, known[kept:]
    material = _in_pieces(known)
    started = time.monotonic()
    with on_one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _MODELS[name](known[0].vectors.shape[1], labels)
        optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=_DECAY, fused=True)
        best, weights, at = -np.inf, deepcopy(model.state_dict()), 0
        for epoch in range(1, _EPOCHS + 1):
            _learn(model, optimizer, material, rng)
            told = _told(model, held_out, labels)
            if told > best:
                best, weights, at = told, deepcopy(model.state_dict()), epoch
            elif epoch - at >= _PATIENCE:
                break
    model.load_state_dict(weights)
    seconds = time.monotonic() - started
    log.info("%s, seed %d: epoch %d of %d in %.0f s", name, seed, at, epoch, seconds)
    return model


def answered(model: nn.Module, dialogues: Sequence[Turns], labels: int) -> Floats:
    """How likely each label is, of each turn that has one; shape (labelled turns, labels)."""
    asked = _in_pieces(dialogues)
    probabilities: list[Floats] = [np.empty((0, labels))] * len(asked)
    model.eval()
    with on_one_thread(), torch.no_grad():
        for places in places_by_length(asked, _AT_ONCE, Random(0)):
            rows = model(batch_of([asked[place] for place in places])).double().softmax(-1).numpy()
            for place, row in zip(places, rows, strict=True):
                gold = asked[place].gold
                probabilities[place] = row[: len(gold)][gold != UNLABELLED]
    return np.concatenate([np.empty((0, labels)), *probabilities])


def out_of_fold_probabilities(
    name: str, dialogues: Sequence[Turns], labels: int, seed: int
) -> Floats:
    """The same of the dialogues themselves, each by a model that was fitted on others.

    Where no other has a label, nothing is known, and all are equally likely.
    """
    parts: list[Floats] = [np.empty((0, labels))] * len(dialogues)
    for fold in range(_FOLDS):
        asked = range(fold, len(dialogues), _FOLDS)
        others = _labelled([one for n, one in enumerate(dialogues) if n % _FOLDS != fold])
        model = fitted(name, others, labels, seed) if others else None
        for place in asked:
            one = dialogues[place]
            if model is None:
                parts[place] = np.full(((one.gold != UNLABELLED).sum(), labels), 1 / labels)
            else:
                parts[place] = answered(model, [one], labels)
    return np.concatenate(parts)


def _labelled(dialogues: Sequence[Turns]) -> list[Turns]:
    return [one for one in dialogues if (one.gold != UNLABELLED).any()]


def _in_pieces(dialogues: Sequence[Turns]) -> list[Turns]:
    return _labelled([part for one in dialogues for part in pieces(one, _LONGEST, _BEFORE)])


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Sums come out the same on every machine, and there is too little to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _learn(
    model: nn.Module, optimizer: torch.optim.Optimizer, dialogues: Sequence[Turns], rng: Random
) -> None:
    """An epoch."""
    model.train()
    for places in places_by_length(dialogues, _AT_ONCE, rng):
        batch = batch_of([dialogues[place] for place in places])
        logits = model(batch).flatten(0, 1)
        loss = cross_entropy(logits, batch.gold.flatten(), ignore_index=UNLABELLED)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), _NORM)
        optimizer.step()


def _told(model: nn.Module, dialogues: Sequence[Turns], labels: int) -> float:
    """Mean logarithm of the right label's probability."""
    gold = np.concatenate([one.gold for one in dialogues])
    gold = gold[gold != UNLABELLED]
    said = answered(model, dialogues, labels)[np.arange(len(gold)), gold]
    return float(np.log(np.maximum(said, 1e-12)).mean())
