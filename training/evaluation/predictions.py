"""Predictions of labelled utterances, and the file that keeps them.

A file keeps probabilities before any calibration: one that was fitted on
the same utterances would make them look better than they are.

One JSON object a line: `{"label_space": "meld", "dialogue": "dev_sent_emo/0", "index": 3,
"utterance": "dia0_utt3", "gold": "joy", "probabilities": {"neutral": 0.1, ...}, "label_mass": 0.99,
"demonstrations": ["joy"]}`; `utterance` only where the corpus has a name for it. Where the model
was asked in other ways too, there are `"reordered": [[0.1, ...]]`, a list of probabilities for each
other order of the prompt's labels, and `"spoken": {"text": "joyful", "label": "joy"}`; where it
read only the end of what is scored, `"truncated": true`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from service.json_lines import read_json_lines, write_json_lines
from training.arrays import Floats, Ints

# What a run of an experiment leaves in its folder.
OF_RUNS = DEVELOPMENT, FORECASTS, TEST = "development.jsonl", "forecasts.jsonl", "test.jsonl"


class PredictionsError(ValueError):
    """A file of predictions cannot be used; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A text that a model decoded freely, and the label that it is the verbalizer of."""

    text: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction of one labelled utterance.

    Attributes:
        dialogue: the dialogue's id; `index` is the utterance's place in it.
        gold: the label's place in the label space.
        probabilities: of each label, in the label space's order.
        label_mass: the vocabulary's share that went to the labels; 1 where there is no vocabulary.
        demonstrations: labels of those the prompt showed, nearest first.
        utterance: the utterance's own id, where it has one.
        reordered: probabilities by prompts that list the labels in other orders; themselves in the
            label space's.
        spoken: where the model decoded freely.
        truncated: whether it read only the end of the utterance, which is longer than it reads.
    """

    dialogue: str
    index: int
    gold: int
    probabilities: tuple[float, ...]
    label_mass: float = 1.0
    demonstrations: tuple[str, ...] = ()
    utterance: str | None = None
    reordered: tuple[tuple[float, ...], ...] = ()
    spoken: Spoken | None = None
    truncated: bool = False


@dataclass(frozen=True)
class Predictions:
    """The answers in one label space, as arrays over the utterances."""

    label_space: str
    labels: tuple[str, ...]
    answers: tuple[Answer, ...]

    @cached_property
    def gold(self) -> Ints:
        """Shape (utterances,)."""
        return np.asarray([answer.gold for answer in self.answers], np.int64)

    @cached_property
    def probabilities(self) -> Floats:
        """Shape (utterances, labels)."""
        return np.asarray([answer.probabilities for answer in self.answers], np.float64)

    @cached_property
    def reordered(self) -> Floats:
        """Shape (utterances, other orders of the prompt's labels, labels)."""
        shape = len(self.answers), -1 if self.answers[0].reordered else 0, len(self.labels)
        rows = [answer.reordered for answer in self.answers]
        return np.asarray(rows, np.float64).reshape(shape)

    @cached_property
    def dialogues(self) -> Ints:
        """Shape (utterances,): the number of each one's dialogue, from 0 in order of appearance."""
        numbers: dict[str, int] = {}
        return np.asarray([numbers.setdefault(a.dialogue, len(numbers)) for a in self.answers])


def write_predictions(by_space: Sequence[Predictions], path: Path) -> None:
    """Write predictions, those of each label space after the other."""
    write_json_lines(
        (_row(predictions, answer) for predictions in by_space for answer in predictions.answers),
        path,
    )


def name_of(path: Path) -> str:
    """The name of a file of predictions: that of its run's folder in an experiment, or its own.

    `NAME@SEED/development.jsonl` is `NAME@SEED`, as is `NAME@SEED.jsonl`.
    """
    folder = path.resolve().parent.name
    return folder if path.name in OF_RUNS and "@" in folder else path.stem


def names_of(paths: Sequence[Path]) -> list[str]:
    """The names of files of predictions: their paths, where two names would be the same.

    Raises:
        ValueError: a file is named twice.
    """
    short = [name_of(path) for path in paths]
    if len({*short}) == len(paths):
        return short
    if twice := [path for place, path in enumerate(paths) if path in paths[:place]]:
        raise ValueError(f"{twice[0]}: is given twice")
    return [str(path) for path in paths]


def _row(predictions: Predictions, answer: Answer) -> dict[str, Any]:
    return {
        "label_space": predictions.label_space,
        "dialogue": answer.dialogue,
        "index": answer.index,
        **({} if answer.utterance is None else {"utterance": answer.utterance}),
        "gold": predictions.labels[answer.gold],
        "probabilities": dict(zip(predictions.labels, answer.probabilities, strict=True)),
        "label_mass": answer.label_mass,
        "demonstrations": answer.demonstrations,
        **({"reordered": answer.reordered} if answer.reordered else {}),
        **({} if answer.spoken is None else {"spoken": asdict(answer.spoken)}),
        **({"truncated": True} if answer.truncated else {}),
    }


def read_predictions(path: Path) -> dict[str, Predictions]:
    """Read what `write_predictions` wrote, by label space.

    Raises:
        PredictionsError: no such file, or a line that is not a prediction.
    """
    labels: dict[str, tuple[str, ...]] = {}
    answers: dict[str, list[Answer]] = {}
    for number, row in read_json_lines(path, PredictionsError):
        try:
            space, probabilities = row["label_space"], row["probabilities"]
            names = labels.setdefault(space, tuple(probabilities))
            if tuple(probabilities) != names:
                raise ValueError(f"the labels of {space} differ from those above")
            answer = Answer(
                dialogue=row["dialogue"],
                index=row["index"],
                gold=names.index(row["gold"]),
                probabilities=tuple(float(share) for share in probabilities.values()),
                label_mass=row["label_mass"],
                demonstrations=tuple(row["demonstrations"]),
                utterance=row.get("utterance"),
                reordered=tuple(tuple(map(float, one)) for one in row.get("reordered", ())),
                spoken=Spoken(**row["spoken"]) if "spoken" in row else None,
                truncated=row.get("truncated", False),
            )
            above = answers.setdefault(space, [])
            _check_other_ways(answer, above[0] if above else answer, names)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PredictionsError(
                f"{path}:{number}: not a prediction: {type(error).__name__}: {error}"
            ) from None
        above.append(answer)
    if not answers:
        raise PredictionsError(f"{path}: contains no prediction")
    return {
        space: Predictions(space, labels[space], tuple(of_space))
        for space, of_space in answers.items()
    }


def _check_other_ways(answer: Answer, first: Answer, labels: tuple[str, ...]) -> None:
    if len(answer.reordered) != len(first.reordered):
        raise ValueError("reordered: another number of orders than above")
    if any(len(row) != len(labels) for row in answer.reordered):
        raise ValueError(f"reordered: not {len(labels)} probabilities in each order")
    if answer.spoken is not None and answer.spoken.label not in (None, *labels):
        raise ValueError(f"spoken: {answer.spoken.label!r} is not a label")
