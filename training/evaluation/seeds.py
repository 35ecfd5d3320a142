"""Runs of one model with several seeds: their names, and how far apart they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over runs, and their standard deviation where there are two or more."""

    mean: float
    deviation: float | None


def spread(values: Sequence[float]) -> Spread:
    """Of one value or more."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), deviation)


def model_and_seed(name: str) -> tuple[str, str | None]:
    """The parts of `NAME@SEED`; without a seed, the name and None."""
    model, _, seed = name.rpartition("@")
    return (model, seed or None) if model else (name, None)
