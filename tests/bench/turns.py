"""What a label engine is asked for an utterance, for many dialogues, and in what order."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Read:
    """One forward pass: a prompt, and the tokens whose log-probabilities are asked for."""

    prompt: tuple[int, ...]
    candidates: tuple[int, ...]


Turn = tuple[Read, ...]  # what one utterance takes: one read, or more where labels begin alike
Turns = tuple[tuple[Turn, ...], ...]  # of each dialogue


def in_waves(dialogues: Sequence[Sequence[Turn]]) -> list[Turn]:
    """The first turn of every dialogue, then every second one, and so on.

    When a turn is read, its predecessor is in the cache.
    """
    return [
        turns[index]
        for index in range(max(map(len, dialogues)))
        for turns in dialogues
        if index < len(turns)
    ]


def write_turns(turns: Mapping[int, Turns], path: Path) -> None:
    """Write the prompts of passes, by their numbers."""
    rows = {
        number: [[[[r.prompt, r.candidates] for r in turn] for turn in d] for d in dialogues]
        for number, dialogues in turns.items()
    }
    path.write_text(json.dumps(rows))


def read_turns(path: Path) -> dict[int, Turns]:
    """Read what `write_turns` wrote."""
    return {
        int(number): tuple(
            tuple(tuple(Read(tuple(p), tuple(c)) for p, c in turn) for turn in dialogue)
            for dialogue in dialogues
        )
        for number, dialogues in json.loads(path.read_text()).items()
    }
