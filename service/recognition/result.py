"""What comes of reading an utterance."""

from dataclasses import dataclass

from service.conversation.prediction import Prediction
from service.demonstrations.store import Match

DEGRADED_DEMONSTRATIONS = "demonstrations"
DEGRADED_LANGUAGE = "language"


@dataclass(frozen=True, slots=True)
class UsedDemonstration:
    """A demonstration that contributed to an answer.

    Attributes:
        weight: the share of the answer that its own label decides, 0 to 1.
        shown: whether the prompt shows it.
    """

    match: Match
    weight: float
    shown: bool


@dataclass(frozen=True, slots=True)
class Recognition:
    """The result for one utterance, or a forecast of the next one.

    Attributes:
        prediction: of the model and people's corrections together.
        model_alone: the model's own prediction, if corrections contribute; else None.
        demonstrations: those that contribute, nearest first.
        degraded: why the prediction may be worse: parts that did not answer, and a language that
            the model was not trained on.
        truncated: whether the model read only the end of the utterance, or, for a forecast, of the
            one before it.
    """

    prediction: Prediction
    demonstrations: tuple[UsedDemonstration, ...]
    degraded: tuple[str, ...]
    truncated: bool = False
    model_alone: Prediction | None = None
