"""What tests of evaluation need."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from service.conversation.labels import LabelSpace
from service.decoding.bundle import write_bundle
from tests.training.conftest import described


@pytest.fixture
def folder(tmp_path: Path, spaces: Mapping[str, LabelSpace]) -> Path:
    """A bundle of two label spaces, not yet calibrated."""
    write_bundle(described(spaces["meld"], spaces["unified"]), tmp_path)
    return tmp_path
