"""Asks a bundle about labelled dialogues through the parts that serve."""

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
from service.parts import Report, open_parts
from service.recognition.dialogues import forecast_dialogue
from service.recognition.pipeline import Recognition, Recognizer, open_recognizer
from service.recognition.retrieval import NearestDemonstrations
from service.settings import Qdrant, Settings
from training.evaluation.free_decoding import Prompt, prompts_of
from training.evaluation.label_orders import in_order, other_orders, with_other_orders
from training.evaluation.predictions import Answer, Predictions


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
        EngineUnavailable: the label engine does not answer.
    """
    answers: list[Answer] = []
    async for dialogue, read in recognize_all(recognizer, dialogues, space, places):
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
        EngineUnavailable: as `ask`.
    """
    answers: list[Answer] = []
    for dialogue in tqdm(dialogues, unit=" dialogues", disable=None):
        read = await forecast_dialogue(recognizer, dialogue.utterances, space, places)
        for place, (utterance, said) in enumerate(zip(dialogue.utterances[1:], read, strict=True)):
            if utterance.label is not None:
                gold = space.names.index(space.label(utterance.label).name)
                answers.append(_answer(dialogue.id, place + 1, gold, said, utterance.id))
    return Predictions(space.name, space.names, tuple(answers))


def _answer(
    dialogue: str, index: int, gold: int, read: Recognition, utterance: str | None
) -> Answer:
    return Answer(
        dialogue,
        index,
        gold,
        read.prediction.probabilities,
        read.prediction.label_mass,
        tuple(heard.match.demonstration.label for heard in read.demonstrations if heard.shown),
        utterance,
        truncated=read.truncated,
    )
