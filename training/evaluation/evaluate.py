"""Predicts labelled dialogues with a bundle, through the parts that serve.

`scores` turns the predictions into the published numbers, `recipes/NAME.yaml` describes the run,
and `data/results/README.md` has the commands.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from service.conversation.calibration import Temperature
from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from service.conversation.prompts import Task
from service.decoding.bundle import Bundle
from service.decoding.engine import LabelEngine
from service.decoding.tokenizer import load_tokenizer
from service.offline import recognize_all
from service.recognition.dialogues import forecast_dialogue
from service.recognition.opening import open_recognizer
from service.recognition.pipeline import Recognizer
from service.recognition.result import Recognition
from service.recognition.retrieval import NearestDemonstrations
from service.recognition_parts import Report, open_parts
from service.settings import Qdrant, Settings
from training.evaluation.free_decoding import Prompt, prompts_of
from training.evaluation.label_orders import in_order, other_orders, with_other_orders
from training.evaluation.predictions import Answer, Predictions


@dataclass(frozen=True, slots=True)
class Asked:
    """A model's predictions in one label space, without the bundle's calibration.

    Attributes:
        predictions: by the prompt that the bundle was trained on, and by those that list the labels
            in other orders.
        prompts: of each answer, in token ids, where they were asked for.
    """

    predictions: Predictions
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

    The bundle's calibration is left to `training.evaluation.scores`: curves could not be undone.

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

        results = []
        for space, dialogues in labelled:
            parts.recognizer.label_space(space.name)
            if task == "prediction":
                forecast = await ask_ahead(recognizer(space), space, dialogues, places)
                results.append(Asked(forecast))
                continue
            predictions = await ask(recognizer(space), space, dialogues, places)
            reordered = []
            for number, other in enumerate(other_orders(space, label_orders), start=1):
                report(f"{space.name}: order {number} of {label_orders}")
                answers = await ask(recognizer(other), other, dialogues, places)
                reordered.append(in_order(answers, space.names))
            kept: list[Prompt] = []
            if prompts:
                report(f"{space.name}: keeping the prompts")
                kept = await prompts_of(partial(recognizer, space), space, dialogues)
            results.append(Asked(with_other_orders(predictions, reordered), tuple(kept)))
    return results


def uncalibrated(bundle: Bundle) -> Bundle:
    """The same bundle without its calibrations."""
    spaces = {
        name: labels.calibrated(Temperature()).model_copy(update={"forecasts": None})
        for name, labels in bundle.label_spaces.items()
    }
    return bundle.model_copy(update={"label_spaces": spaces})


async def ask(
    recognizer: Recognizer,
    space: LabelSpace,
    dialogues: Sequence[Dialogue],
    places: asyncio.Semaphore,
) -> Predictions:
    """A recognizer's predictions of every labelled utterance.

    Args:
        space: by its order of labels, in prompts and in the answers.
        places: bounds how many utterances are under way at once.

    Raises:
        EngineUnavailable: the label engine does not answer.
    """
    answers: list[Answer] = []
    async for dialogue, read in recognize_all(recognizer, dialogues, space, places):
        for place, utterance in enumerate(dialogue.utterances):
            if utterance.label is not None:
                answers.append(_answer(space, dialogue, place, utterance.label, read[place]))
    return Predictions(space.name, space.names, tuple(answers))


async def ask_ahead(
    recognizer: Recognizer,
    space: LabelSpace,
    dialogues: Sequence[Dialogue],
    places: asyncio.Semaphore,
) -> Predictions:
    """A recognizer's forecasts of every labelled utterance but the first of its dialogue.

    Args:
        places: bounds how many utterances are under way at once.

    Raises:
        ForecastNotSupported: the bundle was not trained on the prediction task.
        EngineUnavailable: as `ask`.
    """
    answers: list[Answer] = []
    for dialogue in tqdm(dialogues, unit=" dialogues", disable=None):
        read = await forecast_dialogue(recognizer, dialogue.utterances, space, places)
        asked = zip(dialogue.utterances[1:], read, strict=True)
        for place, (utterance, forecast) in enumerate(asked, start=1):
            if utterance.label is not None:
                answers.append(_answer(space, dialogue, place, utterance.label, forecast))
    return Predictions(space.name, space.names, tuple(answers))


def _answer(
    space: LabelSpace, dialogue: Dialogue, index: int, label: str, read: Recognition
) -> Answer:
    return Answer(
        dialogue=dialogue.id,
        index=index,
        gold=space.names.index(space.label(label).name),
        probabilities=read.prediction.probabilities,
        label_mass=read.prediction.label_mass,
        demonstrations=tuple(
            neighbour.match.demonstration.label
            for neighbour in read.demonstrations
            if neighbour.shown
        ),
        utterance=dialogue.utterances[index].id,
        truncated=read.truncated,
    )
