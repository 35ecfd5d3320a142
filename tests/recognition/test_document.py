"""A recognition as JSON."""

from service.conversation.dialogue import Line
from service.recognition.document import document, forecast_document
from service.recognition.pipeline import Recognizer
from tests.recognition.conftest import OpenRecognizer, ScriptedEngine


async def test_document_says_what_the_interface_promises(
    recognizer: Recognizer, engine: ScriptedEngine
) -> None:
    """The corpus's own word, not the prompt's; probabilities in the label space's order."""
    engine.believes = {"joyful": 0.5, "sad": 0.25}
    recognition = await recognizer.recognize([Line(0, "We won!")], recognizer.label_space("meld"))

    found = document(recognition, recognizer.bundle)

    assert list(found["emotion"]["probabilities"].items()) == [
        ("neutral", 0.0),
        ("surprise", 0.0),
        ("fear", 0.0),
        ("sadness", 1 / 3),
        ("joy", 2 / 3),
        ("disgust", 0.0),
        ("anger", 0.0),
    ]
    assert found == {
        "emotion": {
            "label_space": "meld",
            "label": "joy",
            "unified": "joyful",
            "confidence": 2 / 3,
            "probabilities": found["emotion"]["probabilities"],
            "label_mass": 0.75,
        },
        "demonstrations": [
            {"id": "e1", "text": "Who took it?", "label": "anger", "similarity": 0.75},
            {"id": "e2", "text": "Found it!", "label": "joy", "similarity": 0.5},
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
    said = document(await recognizer.recognize([Line(0, "We won!")], meld), recognizer.bundle)

    forecast = await recognizer.forecast([Line(0, "We won!")], 1, meld)

    found = forecast_document(forecast, recognizer.bundle)
    assert {**found, "demonstrations": said["demonstrations"]} == said
