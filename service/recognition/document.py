"""A recognition as JSON: in responses, in the database, in score files.

The API documentation is generated from these types.

A stored answer contains the ids of its demonstrations but not their texts, which are people's words
and are erased with the demonstration. Readers of stored answers look the texts up.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.conversation.few_shot import OwnLabelSpace
from service.conversation.prediction import Prediction
from service.decoding.bundle import Bundle
from service.recognition.result import Recognition


class Emotion(TypedDict):
    """The emotion of an utterance."""

    label_space: str
    trained: NotRequired[
        Annotated[
            Literal[False],
            Field(
                description="Only present, and false, if no model was trained on the labels: "
                "they are a tenant's own, from examples."
            ),
        ]
    ]
    label: Annotated[str, Field(description="the most probable label, as the corpus names it")]
    unified: Annotated[
        str | None,
        Field(description="the label of `unified` that it maps to; null if it maps to several"),
    ]
    confidence: Annotated[float, Field(description="its probability")]
    probabilities: Annotated[
        dict[str, float],
        Field(description="the probability of each label, calibrated; they sum to 1"),
    ]
    label_mass: Annotated[
        float,
        Field(
            description="The share of the probability over the model's whole vocabulary that the "
            "labels get; low if the model would rather say something else."
        ),
    ]


class UsedDemonstrationDocument(TypedDict):
    """A demonstration that was used for the answer."""

    id: str
    text: Annotated[
        str | None,
        Field(
            description="The current text; null in a stored answer if the demonstration was "
            "deleted, or while the demonstrations are unavailable."
        ),
    ]
    label: Annotated[
        str,
        Field(description="in the label space of the answer, or in its source if it is derived"),
    ]
    similarity: Annotated[float, Field(description="cosine similarity, -1 to 1")]
    weight: Annotated[
        float,
        Field(
            description="Its share in the answer, next to the model's: 0 to 1. Only corrections "
            "of similar utterances have a share above 0."
        ),
    ]
    shown: Annotated[bool, Field(description="Whether it is in the prompt.")]


class Model(TypedDict):
    """What made the prediction."""

    bundle: str
    version: str
    template: str


class RecognitionDocument(TypedDict):
    """Everything in an answer about one utterance, without the utterance itself."""

    emotion: Emotion
    model_alone: Annotated[
        Emotion | None,
        Field(
            description="What the model predicts without the corrections that have a weight in "
            "`emotion`; null if none has."
        ),
    ]
    demonstrations: Annotated[list[UsedDemonstrationDocument], Field(description="nearest first")]
    model: Model
    degraded: Annotated[
        list[str],
        Field(
            description="Why the answer may be worse: `demonstrations` were unavailable and are "
            "not used; the text is in a `language` that the model was not trained on."
        ),
    ]
    truncated: Annotated[
        bool,
        Field(
            description="Whether the utterance is too long for the model, which then reads only "
            "its end."
        ),
    ]


class ForecastDocument(TypedDict):
    """Everything in a forecast of an unspoken utterance, without its speaker."""

    emotion: Emotion
    model: Model
    degraded: Annotated[
        list[str], Field(description="Unavailable parts that the answer does without.")
    ]
    truncated: Annotated[
        bool,
        Field(
            description="Whether the last utterance is too long for the model, which then reads "
            "only its end."
        ),
    ]


def document(recognition: Recognition, bundle: Bundle) -> RecognitionDocument:
    """The JSON form of a recognition; probabilities in the label space's order."""
    model_alone = recognition.model_alone
    return {
        "emotion": emotion_document(recognition.prediction),
        "model_alone": None if model_alone is None else emotion_document(model_alone),
        "demonstrations": [
            {
                "id": used.match.demonstration.id,
                "text": used.match.demonstration.text,
                "label": used.match.demonstration.label,
                "similarity": used.match.similarity,
                "weight": used.weight,
                "shown": used.shown,
            }
            for used in recognition.demonstrations
        ],
        "model": model_document(bundle),
        "degraded": list(recognition.degraded),
        "truncated": recognition.truncated,
    }


def shown_in(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The demonstrations in an answer to one utterance, a dialogue or a batch."""
    yield from answer.get("demonstrations", ())
    for name in _PARTS:
        for part in _list(answer.get(name)):
            yield from shown_in(part)


def without_texts(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer without its demonstrations' texts, as it is stored."""
    return _with_texts(answer, None)


def with_texts(answer: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """A stored answer with its demonstrations' texts; null if a demonstration no longer exists.

    Args:
        texts: by demonstration id.
    """
    return _with_texts(answer, texts)


def _with_texts(answer: Mapping[str, Any], texts: Mapping[str, str] | None) -> dict[str, Any]:
    new = dict(answer)
    if "demonstrations" in new:
        new["demonstrations"] = [
            {
                "id": shown["id"],
                **({} if texts is None else {"text": texts.get(shown["id"])}),
                "label": shown["label"],
                "similarity": shown["similarity"],
                "weight": shown.get("weight", 0.0),
                "shown": shown.get("shown", True),
            }
            for shown in new["demonstrations"]
        ]
        # Answers stored before these fields existed have these values.
        new.setdefault("truncated", False)
        new.setdefault("model_alone", None)
    for name in _PARTS:
        if parts := _list(new.get(name)):
            new[name] = [_with_texts(part, texts) for part in parts]
    return new


# The fields that hold nested answers: of a dialogue, and of a batch.
_PARTS = ("utterances", "results")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []  # a job's `results` is a path


def forecast_document(forecast: Recognition, bundle: Bundle) -> ForecastDocument:
    """The JSON form of a forecast, which uses no demonstrations."""
    return {
        "emotion": emotion_document(forecast.prediction),
        "model": model_document(bundle),
        "degraded": list(forecast.degraded),
        "truncated": forecast.truncated,
    }


def emotion_document(prediction: Prediction) -> Emotion:
    """The JSON form of a prediction."""
    label = prediction.label
    emotion: Emotion = {
        "label_space": prediction.label_space.name,
        "label": label.name,
        "unified": label.unified,
        "confidence": prediction.confidence,
        "probabilities": dict(
            zip(prediction.label_space.names, prediction.probabilities, strict=True)
        ),
        "label_mass": prediction.label_mass,
    }
    if isinstance(prediction.label_space, OwnLabelSpace):
        emotion["trained"] = False
    return emotion


def model_document(bundle: Bundle) -> Model:
    """What a bundle's predictions are made by."""
    return {"bundle": bundle.name, "version": bundle.version, "template": bundle.template}
