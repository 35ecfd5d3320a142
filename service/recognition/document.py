"""A recognition as JSON: what an answer, a stored utterance and a line of a score file say."""

from typing import TypedDict

from service.conversation.prediction import Prediction
from service.decoding.bundle import Bundle
from service.recognition.pipeline import Recognition


class EmotionDocument(TypedDict):
    """The emotion of one utterance."""

    label_space: str
    label: str
    unified: str
    confidence: float
    probabilities: dict[str, float]
    label_mass: float


class ShownDemonstration(TypedDict):
    """A demonstration that the prompt showed."""

    id: str
    text: str
    label: str
    similarity: float


class ModelDocument(TypedDict):
    """What made the prediction."""

    bundle: str
    version: str
    template: str


class RecognitionDocument(TypedDict):
    """Everything an answer says of one utterance but the utterance itself."""

    emotion: EmotionDocument
    demonstrations: list[ShownDemonstration]
    model: ModelDocument
    degraded: list[str]


class ForecastDocument(TypedDict):
    """Everything an answer says of an utterance that is not spoken yet but whose it would be."""

    emotion: EmotionDocument
    model: ModelDocument
    degraded: list[str]


def document(recognition: Recognition, bundle: Bundle) -> RecognitionDocument:
    """The JSON form of a recognition; probabilities in the label space's order."""
    return {
        "emotion": emotion_document(recognition.prediction),
        "demonstrations": [
            {
                "id": match.demonstration.id,
                "text": match.demonstration.text,
                "label": match.demonstration.label,
                "similarity": match.similarity,
            }
            for match in recognition.demonstrations
        ],
        "model": _model_document(bundle),
        "degraded": list(recognition.degraded),
    }


def forecast_document(forecast: Recognition, bundle: Bundle) -> ForecastDocument:
    """The JSON form of a forecast; no demonstration has a part in one."""
    return {
        "emotion": emotion_document(forecast.prediction),
        "model": _model_document(bundle),
        "degraded": list(forecast.degraded),
    }


def emotion_document(prediction: Prediction) -> EmotionDocument:
    """The JSON form of a prediction."""
    label = prediction.label
    return {
        "label_space": prediction.label_space.name,
        "label": label.name,
        "unified": label.unified,
        "confidence": prediction.confidence,
        "probabilities": dict(
            zip(prediction.label_space.names, prediction.probabilities, strict=True)
        ),
        "label_mass": prediction.label_mass,
    }


def _model_document(bundle: Bundle) -> ModelDocument:
    return {"bundle": bundle.name, "version": bundle.version, "template": bundle.template}
