"""The dialogues of a run, pass after pass.

No two passes say the same: a prefix cache that has seen one pass must not serve the next, save for
what the prompts of all dialogues share.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from service.conversation.dialogue import Dialogue
from service.dialogue_files import read_dialogues
from tests.bench.shape import dialogues_of_shape, read_shape

# The dialogues of one pass, by its number.
Passes = Callable[[int], tuple[Dialogue, ...]]

WARM_UP = -1  # a pass that no row measures


def synthetic_passes(demonstrations: Path) -> Passes:
    """MELD's shape in the words of a file of demonstrations."""
    shape = read_shape()
    with demonstrations.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file if line.strip()]

    def dialogues(number: int) -> tuple[Dialogue, ...]:
        return dialogues_of_shape(shape, texts, f"pass-{number}")

    return dialogues


def passes_of_file(path: Path) -> Passes:
    """A file's dialogues: pass 0 as they are, any other with each utterance's words in disorder.

    Raises:
        DialogueFormatError: the file is not in the interchange format.
        ValueError: it holds no utterance.
    """
    readable = tuple(dialogue for dialogue in read_dialogues(path) if dialogue.utterances)
    if not readable:
        raise ValueError(f"{path}: holds no utterance")

    def dialogues(number: int) -> tuple[Dialogue, ...]:
        return readable if number == 0 else tuple(_disordered(readable, number))

    return dialogues


def dialogues_from(passes: Passes, first: int) -> Iterator[Dialogue]:
    """The dialogues of pass `first` and all that follow, without end."""
    for number in count(first):
        yield from passes(number)


def _disordered(dialogues: tuple[Dialogue, ...], number: int) -> Iterator[Dialogue]:
    rng = random.Random(number)
    for dialogue in dialogues:
        utterances = []
        for utterance in dialogue.utterances:
            words = utterance.text.split()
            rng.shuffle(words)
            utterances.append(replace(utterance, text=" ".join(words)))
        yield Dialogue(f"{dialogue.id}-{number}", tuple(utterances))
