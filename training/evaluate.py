"""Scores a bundle on labelled dialogues through the parts that serve, and calibrates it."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from service.conversation.calibration import Calibration, Temperature
from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from service.conversation.prompts import Task
from service.decoding.bundle import Bundle, BundleError, TrainedLabels, read_bundle, write_bundle
from service.decoding.engine import LabelEngine
from service.decoding.tokenizer import load_tokenizer
from service.errors import UtteranceTooLong
from service.offline import recognize_all
from service.parts import Report, open_parts
from service.recognition.dialogues import forecast_dialogue
from service.recognition.pipeline import Recognition, Recognizer, open_recognizer
from service.recognition.retrieval import NearestDemonstrations
from service.settings import Qdrant, Settings
from training.calibration import FITS, calibrated, cross_fitted, fitted
from training.free_decoding import Prompt, prompts_of
from training.label_orders import in_order, other_orders, with_other_orders
from training.metrics import measure
from training.predictions import Answer, Predictions, write_predictions

Kind = Literal["temperature", "isotonic"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How a bundle does in one label space, by its own calibration and by a new one.

    Attributes:
        weighted_f1, macro_f1, accuracy: in percent, every label counted, neutral included.
        micro_f1: in percent, of all labels but neutral together.
        brier, calibration_error: see `training.metrics`.
        fitted: what calibrates these utterances best.
        calibrated_*: by calibrations of that kind, each utterance by one that was fitted on other
            dialogues.
        demonstration_agreement: in percent, how often the nearest demonstration shown has the gold
            label; None where none was shown.
        predicted: each label's share of the answers when calibrated by `fitted`, which live ones
            are compared with; by label name.
        label_mass: mean share of the vocabulary's probability that goes to the labels.
        label_order_flip_rate: share of the answers that another order of the prompt's labels
            changes, the mean over the orders; None where none was asked in.
        invalid_rate: share of what the model freely says that is no verbalizer and nothing else.
        free_decode_agreement: share that is the verbalizer of the label scored highest; None, both
            of them, where it was not let speak.
    """

    label_space: str
    utterances: int
    weighted_f1: float
    macro_f1: float
    micro_f1: float
    accuracy: float
    brier: float
    calibration_error: float
    fitted: Calibration
    calibrated_weighted_f1: float
    calibrated_macro_f1: float
    calibrated_micro_f1: float
    calibrated_accuracy: float
    calibrated_brier: float
    calibrated_error: float
    label_mass: float
    demonstration_agreement: float | None
    predicted: dict[str, float]
    label_order_flip_rate: float | None = None
    invalid_rate: float | None = None
    free_decode_agreement: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Of curves, only that there are some: `bundle.json` has them, and the labels' shares."""
        found = asdict(self)
        del found["fitted"], found["predicted"]
        if isinstance(self.fitted, Temperature):
            return found | {"calibration": "temperature", "temperature": self.fitted.value}
        return found | {"calibration": "isotonic"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a bundle's model said in one label space, without the bundle's calibration.

    Attributes:
        said: with the prompt that the bundle was trained on, and with those that list the labels
            in other orders.
        prompts: of each answer, in token ids, where they were asked for.
    """

    said: Predictions
    prompts: tuple[Prompt, ...] = ()


async def evaluate(
    settings: Settings,
    labelled: Sequence[tuple[LabelSpace, Sequence[Dialogue]]],
    index: Path,
    demonstrations: bool,
    report: Report,
    task: Task = "main",
    label_orders: int = 0,
    prompts: bool = False,
) -> list[Asked]:
    """Label dialogues in each label space; utterances without a label count as context only.

    The bundle's calibration is left to `score`: curves could not be undone.

    Args:
        index: a folder for an index of the demonstrations. The settings' Qdrant server is left
            alone: what it holds is served, and indexing would replace it.
        demonstrations: whether prompts show any.
        task: "prediction" forecasts every utterance but the first of its dialogue.
        label_orders: in how many other orders of the labels to ask everything again.
        prompts: whether to keep them.

    Raises:
        ServiceError: a label space that the bundle was not trained on, or a part that fails.
    """
    apart = settings.model_copy(update={"qdrant": Qdrant()})
    async with open_parts(apart, report, index=index, demonstrations=demonstrations) as parts:
        bundle, tokenizer = uncalibrated(parts.bundle), load_tokenizer(settings.bundle)
        retrieval = NearestDemonstrations(parts.encoder, parts.store) if demonstrations else None
        places = asyncio.Semaphore(2 * settings.engine.max_sequences)

        def recognizer(space: LabelSpace, engine: LabelEngine = parts.engine) -> Recognizer:
            spaces = {**parts.label_spaces, space.name: space}
            return open_recognizer(bundle, tokenizer, spaces, engine, retrieval)

        found = []
        for space, dialogues in labelled:
            parts.recognizer.label_space(space.name)
            if task == "prediction":
                forecast = await ask_ahead(recognizer(space), space, dialogues, places)
                found.append(Asked(forecast))
                continue
            said = await ask(recognizer(space), space, dialogues, places)
            reordered = []
            for number, other in enumerate(other_orders(space, label_orders), start=1):
                report(f"{space.name}: order {number} of {label_orders}")
                answers = await ask(recognizer(other), other, dialogues, places)
                reordered.append(in_order(answers, space.names))
            kept: list[Prompt] = []
            if prompts:
                report(f"{space.name}: keeping the prompts")
                kept = await prompts_of(partial(recognizer, space), space, dialogues)
            found.append(Asked(with_other_orders(said, reordered), tuple(kept)))
    return found


def uncalibrated(bundle: Bundle) -> Bundle:
    """The same bundle, which gives probabilities as its model says them."""
    spaces = {name: one.calibrated(Temperature()) for name, one in bundle.label_spaces.items()}
    return bundle.model_copy(update={"label_spaces": spaces})


async def ask(
    recognizer: Recognizer,
    space: LabelSpace,
    dialogues: Sequence[Dialogue],
    places: asyncio.Semaphore,
) -> Predictions:
    """What a recognizer says of every labelled utterance.

    Args:
        space: by its order of labels, in prompts and in the answers.
        places: bounds how many utterances are under way at once.

    Raises:
        UtteranceTooLong: an utterance is longer than the model reads.
        EngineUnavailable: the label engine does not answer.
    """
    answers: list[Answer] = []
    async for dialogue, read in recognize_all(recognizer, dialogues, space, places):
        if isinstance(read, UtteranceTooLong):
            raise read
        for place, utterance in enumerate(dialogue.utterances):
            if utterance.label is not None:
                gold = space.names.index(space.label(utterance.label).name)
                answers.append(_answer(dialogue.id, place, gold, read[place], utterance.id))
    return Predictions(space.name, space.names, tuple(answers))


async def ask_ahead(
    recognizer: Recognizer,
    space: LabelSpace,
    dialogues: Sequence[Dialogue],
    places: asyncio.Semaphore,
) -> Predictions:
    """What a recognizer forecasts of every labelled utterance but the first of its dialogue.

    Args:
        places: bounds how many utterances are under way at once.

    Raises:
        ForecastNotSupported: the bundle was not trained on the prediction task.
        UtteranceTooLong, EngineUnavailable: as `ask`.
    """
    answers: list[Answer] = []
    for dialogue in tqdm(dialogues, unit=" dialogues", disable=None):
        read = await forecast_dialogue(recognizer, dialogue.utterances, space, places)
        for place, (utterance, said) in enumerate(zip(dialogue.utterances[1:], read, strict=True)):
            if utterance.label is not None:
                gold = space.names.index(space.label(utterance.label).name)
                answers.append(_answer(dialogue.id, place + 1, gold, said, utterance.id))
    return Predictions(space.name, space.names, tuple(answers))


def keep(
    said: Sequence[Predictions],
    scores: Sequence[Scores],
    bundles: Sequence[Path],
    predictions: Path | None,
) -> None:
    """Write scores and calibrations into bundles or adapters, and then what was said to a file.

    The file says that all is done: an experiment that was stopped goes on by it.

    Args:
        said: without a calibration, so that others can be fitted and judged by it.

    Raises:
        BundleError: as `record`.
    """
    for folder in bundles:
        record(scores, folder)
    if predictions is not None:
        write_predictions(said, predictions)


def record(scores: Sequence[Scores], folder: Path) -> None:
    """Write calibrations and scores into the `bundle.json` of a bundle or an adapter.

    Raises:
        BundleError: no bundle, or one without a label space that was scored; nothing is written.
    """
    bundle = recordable(folder, [score.label_space for score in scores])
    spaces = dict(bundle.label_spaces)
    for score in scores:
        development = {
            "utterances": float(score.utterances),
            "weighted_f1": score.calibrated_weighted_f1,
            "macro_f1": score.calibrated_macro_f1,
            "micro_f1": score.calibrated_micro_f1,
            "accuracy": score.calibrated_accuracy,
            "calibration_error": score.calibrated_error,
        }
        spaces[score.label_space] = (
            spaces[score.label_space]
            .calibrated(score.fitted)
            .model_copy(update={"development": development, "predicted": score.predicted})
        )
    write_bundle(bundle.model_copy(update={"label_spaces": spaces}), folder)


def recordable(folder: Path, label_spaces: Sequence[str]) -> Bundle:
    """The bundle or adapter in a folder, if scores in all of these label spaces may go there.

    Raises:
        BundleError: no bundle, or one that was not trained on a label space.
    """
    bundle = read_bundle(folder)
    for name in label_spaces:
        if name not in bundle.label_spaces:
            raise BundleError(f"{folder}: was not trained on {name}")
    return bundle


def score(said: Predictions, trained: TrainedLabels, kind: Kind = "temperature") -> Scores:
    """The scores of what a bundle's model said.

    Args:
        said: without the bundle's calibration.
        trained: the label space as the bundle has it.
        kind: which calibration to fit.
    """
    served = measure(calibrated(said, trained.calibration))
    mended = measure(cross_fitted(said, FITS[kind]))
    shown = served.demonstration_agreement
    fit = fitted(said, FITS[kind])
    return Scores(
        label_space=said.label_space,
        utterances=served.utterances,
        weighted_f1=round(100 * served.weighted_f1, 2),
        macro_f1=round(100 * served.macro_f1, 2),
        micro_f1=round(100 * served.micro_f1, 2),
        accuracy=round(100 * served.accuracy, 2),
        brier=round(served.brier, 4),
        calibration_error=round(served.calibration_error, 4),
        fitted=fit,
        calibrated_weighted_f1=round(100 * mended.weighted_f1, 2),
        calibrated_macro_f1=round(100 * mended.macro_f1, 2),
        calibrated_micro_f1=round(100 * mended.micro_f1, 2),
        calibrated_accuracy=round(100 * mended.accuracy, 2),
        calibrated_brier=round(mended.brier, 4),
        calibrated_error=round(mended.calibration_error, 4),
        label_mass=round(served.label_mass, 4),
        demonstration_agreement=None if shown is None else round(100 * shown, 2),
        predicted=_shares(calibrated(said, fit)),
        label_order_flip_rate=_rounded(served.label_order_flip_rate),
        invalid_rate=_rounded(served.invalid_rate),
        free_decode_agreement=_rounded(served.free_decode_agreement),
    )


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 4)


def _shares(said: Predictions) -> dict[str, float]:
    """Each label's share of the answers."""
    counts = np.bincount(said.probabilities.argmax(axis=1), minlength=len(said.labels))
    shares = (counts / len(said.answers)).round(4).tolist()
    return dict(zip(said.labels, shares, strict=True))


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
