"""Scores a bundle on labelled dialogues through the parts that serve, and calibrates it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from service.decoding.bundle import BundleError, read_bundle, write_bundle
from service.errors import UtteranceTooLong
from service.offline import recognize_all
from service.parts import Report, open_parts
from service.settings import Settings

Floats = npt.NDArray[np.float64]

# Fine enough that a step changes no probability by a percent.
_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 400))
_CONFIDENCE_BINS = 15


@dataclass(frozen=True, slots=True)
class Scores:
    """How a bundle does in one label space.

    Attributes:
        weighted_f1, macro_f1, accuracy: in percent, every label counted, neutral included.
        calibration_error: expected calibration error over 15 bins of confidence, 0 to 1, at the
            bundle's temperature (Guo et al. 2017, arXiv 1706.04599, section 2).
        temperature: the one that fits these utterances best, by negative log-likelihood.
        calibrated_error: the calibration error at that temperature.
        label_mass: mean share of the vocabulary's probability that goes to the labels.
    """

    label_space: str
    utterances: int
    weighted_f1: float
    macro_f1: float
    accuracy: float
    calibration_error: float
    temperature: float
    calibrated_error: float
    label_mass: float


async def evaluate(
    settings: Settings,
    labelled: Sequence[tuple[LabelSpace, Sequence[Dialogue]]],
    index: Path,
    demonstrations: bool,
    report: Report,
) -> list[Scores]:
    """Score dialogues in each label space; utterances without a label count as context only.

    Args:
        index: a folder for an index of the shipped demonstrations.
        demonstrations: whether prompts show any.

    Raises:
        ServiceError: a label space that the bundle was not trained on, or a part that fails.
    """
    found = []
    async with open_parts(settings, report, index=index, demonstrations=demonstrations) as parts:
        places = asyncio.Semaphore(2 * settings.engine.max_sequences)
        for space, dialogues in labelled:
            parts.recognizer.label_space(space.name)
            gold: list[int] = []
            probabilities: list[tuple[float, ...]] = []
            mass: list[float] = []
            async for dialogue, answers in recognize_all(
                parts.recognizer, dialogues, space, places
            ):
                if isinstance(answers, UtteranceTooLong):
                    raise answers
                for utterance, answer in zip(dialogue.utterances, answers, strict=True):
                    if utterance.label is not None:
                        gold.append(space.names.index(space.label(utterance.label).name))
                        probabilities.append(answer.prediction.probabilities)
                        mass.append(answer.prediction.label_mass)
            temperature = parts.bundle.label_spaces[space.name].temperature
            found.append(
                _scores(space, np.asarray(gold), np.asarray(probabilities), temperature, mass)
            )
    return found


def record(scores: Sequence[Scores], folder: Path) -> None:
    """Write temperatures and scores into the `bundle.json` of a bundle or an adapter.

    Raises:
        BundleError: no bundle, or one without a label space that was scored; nothing is written.
    """
    bundle = read_bundle(folder)
    spaces = dict(bundle.label_spaces)
    for score in scores:
        if score.label_space not in spaces:
            raise BundleError(f"{folder}: was not trained on {score.label_space}")
        spaces[score.label_space] = spaces[score.label_space].model_copy(
            update={
                "temperature": score.temperature,
                "development": {
                    "utterances": score.utterances,
                    "weighted_f1": score.weighted_f1,
                    "macro_f1": score.macro_f1,
                    "accuracy": score.accuracy,
                    "calibration_error": score.calibrated_error,
                },
            }
        )
    write_bundle(bundle.model_copy(update={"label_spaces": spaces}), folder)


def fit_temperature(log_probabilities: Floats, gold: npt.NDArray[np.int64]) -> float:
    """The temperature under which the gold labels are most likely.

    Args:
        log_probabilities: shape (utterances, labels), at temperature 1 up to a constant a row.
        gold: shape (utterances,), indexes of labels.
    """
    losses = [
        -np.log(np.clip(_softened(log_probabilities, t)[range(len(gold)), gold], 1e-12, 1)).mean()
        for t in _TEMPERATURES
    ]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 4)


def calibration_error(probabilities: Floats, gold: npt.NDArray[np.int64]) -> float:
    """Expected calibration error of the most probable label, 0 to 1."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == gold
    bins = np.minimum((confidence * _CONFIDENCE_BINS).astype(int), _CONFIDENCE_BINS - 1)
    gaps = [
        abs(right[bins == n].mean() - confidence[bins == n].mean()) * (bins == n).mean()
        for n in np.unique(bins)
    ]
    return float(sum(gaps))


def _softened(log_probabilities: Floats, temperature: float) -> Floats:
    scaled = log_probabilities / temperature
    weights = np.exp(scaled - scaled.max(1, keepdims=True))
    softened: Floats = weights / weights.sum(1, keepdims=True)
    return softened


def _scores(
    space: LabelSpace,
    gold: npt.NDArray[np.int64],
    probabilities: Floats,
    temperature: float,
    mass: Sequence[float],
) -> Scores:
    from sklearn.metrics import f1_score

    said = probabilities.argmax(1)
    # Undoes the bundle's own temperature; what a softmax lost is a constant a row.
    raw = np.log(np.clip(probabilities, 1e-30, 1)) * temperature
    best = fit_temperature(raw, gold)
    return Scores(
        label_space=space.name,
        utterances=len(gold),
        weighted_f1=round(100 * float(f1_score(gold, said, average="weighted")), 2),
        macro_f1=round(100 * float(f1_score(gold, said, average="macro")), 2),
        accuracy=round(100 * float((said == gold).mean()), 2),
        calibration_error=round(calibration_error(probabilities, gold), 4),
        temperature=best,
        calibrated_error=round(calibration_error(_softened(raw, best), gold), 4),
        label_mass=round(float(np.mean(mass)), 4),
    )
