"""What tests of evaluation need."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.conversation.labels import LabelSpace
from service.decoding.bundle import write_bundle
from tests.training.conftest import described
from training.evaluation.predictions import Answer, Predictions

MELD = Predictions(
    "meld",
    ("joy", "anger"),
    (
        Answer("dev/0", 0, 0, (0.75, 0.25), 0.99, ("joy", "anger"), "dia0_utt0"),
        Answer("dev/0", 2, 1, (0.5, 0.5), 0.98, utterance="dia0_utt3"),
        Answer("dev/7", 0, 1, (0.125, 0.875), 1.0, ("joy",)),
    ),
)


@pytest.fixture
def folder(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> Path:
    """A bundle of two label spaces, not yet calibrated."""
    write_bundle(described(spaces["meld"], spaces["unified"]), tmp_path)
    return tmp_path
