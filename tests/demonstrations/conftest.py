"""The encoder, once for all tests, and vectors that stand in for its own."""

import asyncio
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from service.demonstrations.encoder import DIMENSIONS, Encoder, Vectors, load_encoder


@pytest.fixture(scope="session")
def encoder() -> Iterator[Encoder]:
    encoder = load_encoder()
    yield encoder
    asyncio.run(encoder.close())


@pytest.fixture(scope="session")
def unit_vectors() -> Callable[[int, int], Vectors]:
    """Makes n random vectors of length 1 from a seed; no two of them are alike."""

    def make(n: int, seed: int) -> Vectors:
        vectors = np.random.default_rng(seed).normal(size=(n, DIMENSIONS))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32)

    return make
