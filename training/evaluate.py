"""Scores a bundle on labelled dialogues through the parts that serve, and calibrates it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from service.decoding.bundle import BundleError, read_bundle, write_bundle
from service.errors import UtteranceTooLong
from service.offline import recognize_all
from service.parts import Report, open_parts
from service.recognition.pipeline import Recognition
from service.settings import Settings
from training.calibration import calibration_error, fit_temperature, softened
from training.metrics import brier, measure
from training.predictions import Answer, Predictions


@dataclass(frozen=True, slots=True)
class Scores:
    """How a bundle does in one label space.

    Attributes:
        weighted_f1, macro_f1, accuracy: in percent, every label counted, neutral included.
        brier, calibration_error: at the bundle's temperature; see `training.metrics`.
        temperature: the one that fits these utterances best, by negative log-likelihood.
        calibrated_brier, calibrated_error: at that temperature.
        demonstration_agreement: in percent, how often the nearest demonstration shown has the gold
            label; None where none was shown.
        label_mass: mean share of the vocabulary's probability that goes to the labels.
    """

    label_space: str
    utterances: int
    weighted_f1: float
    macro_f1: float
    accuracy: float
    brier: float
    calibration_error: float
    temperature: float
    calibrated_brier: float
    calibrated_error: float
    label_mass: float
    demonstration_agreement: float | None


async def evaluate(
    settings: Settings,
    labelled: Sequence[tuple[LabelSpace, Sequence[Dialogue]]],
    index: Path,
    demonstrations: bool,
    report: Report,
) -> list[Predictions]:
    """Label dialogues in each label space; utterances without a label count as context only.

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
            answers: list[Answer] = []
            async for dialogue, read in recognize_all(parts.recognizer, dialogues, space, places):
                if isinstance(read, UtteranceTooLong):
                    raise read
                for place, utterance in enumerate(dialogue.utterances):
                    if utterance.label is not None:
                        gold = space.names.index(space.label(utterance.label).name)
                        answers.append(_answer(dialogue.id, place, gold, read[place], utterance.id))
            found.append(Predictions(space.name, space.names, tuple(answers)))
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


def score(predictions: Predictions, temperature: float) -> Scores:
    """The scores of a bundle's predictions.

    Args:
        temperature: the bundle's, in this label space.
    """
    measured = measure(predictions)
    probabilities, gold = predictions.probabilities, predictions.gold
    # Undoes the bundle's own temperature; what a softmax lost is a constant a row.
    raw = np.log(np.clip(probabilities, 1e-30, 1)) * temperature
    best = fit_temperature(raw, gold)
    calibrated = softened(raw, best)
    agreement = measured.demonstration_agreement
    return Scores(
        label_space=predictions.label_space,
        utterances=measured.utterances,
        weighted_f1=round(100 * measured.weighted_f1, 2),
        macro_f1=round(100 * measured.macro_f1, 2),
        accuracy=round(100 * measured.accuracy, 2),
        brier=round(measured.brier, 4),
        calibration_error=round(measured.calibration_error, 4),
        temperature=best,
        calibrated_brier=round(brier(calibrated, gold), 4),
        calibrated_error=round(calibration_error(calibrated, gold), 4),
        label_mass=round(measured.label_mass, 4),
        demonstration_agreement=None if agreement is None else round(100 * agreement, 2),
    )


def _answer(
    dialogue: str, index: int, gold: int, read: Recognition, utterance: str | None
) -> Answer:
    return Answer(
        dialogue,
        index,
        gold,
        read.prediction.probabilities,
        read.prediction.label_mass,
        tuple(match.demonstration.label for match in read.demonstrations),
        utterance,
    )
