"""Bundles that could not answer are refused when they are opened."""

import pytest

from service.conversation.labels import Label, LabelSpace
from service.decoding.bundle import Bundle, BundleError, TrainedLabels
from service.decoding.tokenizer import Tokenizer
from service.recognition.opening import open_recognizer
from tests.recognition.conftest import OpenRecognizer, ScriptedEngine, Words


def test_bundle_that_leaves_utterances_no_room_is_refused(open_with: OpenRecognizer) -> None:
    """Before anybody is answered: no cut would help."""
    with pytest.raises(BundleError, match=r"bundle mini: max_tokens, 20, is too low: .* has \d+"):
        open_with(max_tokens=20)


def test_bundle_whose_labels_the_tokenizer_confuses_is_refused(
    words: Words, engine: ScriptedEngine, bundle: Bundle
) -> None:
    """When it is opened, not at the first request; the error names bundle and words."""
    space = LabelSpace(
        "moods", "Moods", (Label("up", "very up", "joyful"), Label("much", "very", "joyful"))
    )
    changed = bundle.model_copy(
        update={"label_spaces": {"moods": TrainedLabels(verbalizers={"up": "very up"})}}
    )

    with pytest.raises(
        BundleError,
        match="bundle mini: moods: the tokens of 'very up' begin with all those of 'very'",
    ):
        open_recognizer(changed, Tokenizer(words.encode, (), None), {"moods": space}, engine, None)
