"""A recognition as JSON."""

from typing import Any, cast

from service.conversation.dialogue import Line
from service.recognition.document import document, forecast_document, with_texts, without_texts
from service.recognition.pipeline import Recognizer
from tests.recognition.conftest import (
    OpenRecognizer,
    ScriptedEngine,
    ScriptedRetrieval,
    corrected,
)

SHOWN: Any = {"weight": 0.0, "shown": True}


async def test_document_says_what_the_interface_promises(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """The corpus's own word, not the prompt's; probabilities in the label space's order."""
    engine.believes = {"joyful": 0.5, "sad": 0.25}
    recognition = await recognizer.recognize([Line(0, "We won!")], recognizer.label_space("meld"))

    answer = document(recognition, recognizer.bundle)

    assert list(answer["emotion"]["probabilities"].items()) == [
        ("neutral", 0.0),
        ("surprise", 0.0),
        ("fear", 0.0),
        ("sadness", 1 / 3),
        ("joy", 2 / 3),
        ("disgust", 0.0),
        ("anger", 0.0),
    ]
    assert answer == {
        "emotion": {
            "label_space": "meld",
            "label": "joy",
            "unified": "joyful",
            "confidence": 2 / 3,
            "probabilities": answer["emotion"]["probabilities"],
            "label_mass": 0.75,
        },
        "model_alone": None,
        "demonstrations": [
            {"id": "e1", "text": "Who took it?", "label": "anger", "similarity": 0.75} | SHOWN,
            {"id": "e2", "text": "Found it!", "label": "joy", "similarity": 0.5} | SHOWN,
        ],
        "model": {"bundle": "mini", "version": "3", "template": "v2"},
        "degraded": [],
        "truncated": False,
    }


async def test_forecasts_document_is_that_of_an_utterance_without_demonstrations(
    open_with: OpenRecognizer,
) -> None:
    """Emotion and model look the same; there were none to show."""
    recognizer = open_with(tasks=("main", "prediction"))
    meld = recognizer.label_space("meld")
    recognized = document(await recognizer.recognize([Line(0, "We won!")], meld), recognizer.bundle)

    forecast = await recognizer.forecast([Line(0, "We won!")], 1, meld)

    answer = forecast_document(forecast, recognizer.bundle)
    heard = {"demonstrations": recognized["demonstrations"], "model_alone": None}
    assert {**answer, **heard} == recognized


async def test_document_says_what_a_correction_changed(
    recognizer: Recognizer, retrieval: ScriptedRetrieval, engine: ScriptedEngine
) -> None:
    """Its weight, and what the model says without it; stored, old answers read as before."""
    engine.believes = {"joyful": 0.9}
    retrieval.corrections = [corrected("c1", "sadness", 1.0, 1.0)]
    recognition = await recognizer.recognize([Line(0, "We won!")], recognizer.label_space("meld"))

    answer = document(recognition, recognizer.bundle)

    assert answer["emotion"]["label"] == "sadness"
    assert answer["model_alone"] is not None
    assert answer["model_alone"]["label"] == "joy"
    first, *others = answer["demonstrations"]
    assert (first["id"], first["shown"], first["weight"] > 0.8) == ("c1", True, True)
    assert [(each["id"], each["weight"]) for each in others] == [("e1", 0.0)]
    stored = without_texts(cast(dict[str, Any], answer))
    assert with_texts(stored, {"c1": "We won!", "e1": "Who took it?"}) == answer
    old = {"demonstrations": [{"id": "e1", "label": "anger", "similarity": 0.75}]}
    assert with_texts(old, {})["demonstrations"] == [
        {"id": "e1", "text": None, "label": "anger", "similarity": 0.75} | SHOWN
    ]
