"""Dialogues with other labels."""

from collections.abc import Mapping

from service.conversation.labels import LabelSpace
from tests.training.conftest import SAID
from training.datasets.relabelling import with_unified_labels


def test_unified_labels_are_those_the_label_space_maps_to(
    spaces: Mapping[str, LabelSpace],
) -> None:
    """Speakers, texts and gaps stay."""
    (dialogue,) = with_unified_labels([SAID], spaces["meld"])

    assert [u.label for u in dialogue.utterances] == ["joyful", None, "fear", "sad"]
    assert [(u.speaker, u.text) for u in dialogue.utterances] == [
        (u.speaker, u.text) for u in SAID.utterances
    ]
    assert dialogue.id == "d"
