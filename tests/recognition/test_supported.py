"""Which label spaces a bundle answers in."""

import pytest

from service.errors import UnsupportedLabelSpace
from service.recognition.pipeline import Recognizer


@pytest.mark.parametrize("name", ["meld", "MELD", "Unified"])
def test_label_space_is_found_without_regard_to_case(name: str, recognizer: Recognizer) -> None:
    assert recognizer.label_space(name).name == name.lower()


def test_label_space_the_model_was_not_trained_on_is_refused(recognizer: Recognizer) -> None:
    """Known to the service, unknown to the model; the error says what it answers in."""
    with pytest.raises(
        UnsupportedLabelSpace, match=r"mini was not trained on .*'iemocap'.* meld, unified"
    ):
        recognizer.label_space("iemocap")


def test_unknown_label_space_is_refused(recognizer: Recognizer) -> None:
    """Most likely misspelt; nothing is said of training."""
    with pytest.raises(
        UnsupportedLabelSpace, match=r"the bundle supports meld, unified"
    ) as refused:
        recognizer.label_space("melt")

    assert "trained" not in str(refused.value)
