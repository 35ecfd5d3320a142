"""Dialogues with a corpus's shape and this project's own words.

A speed depends on how many utterances a dialogue has, who speaks and how many words they say, not
on which words. `meld_shape.json` holds those numbers for the first 60 dialogues of MELD's
development split (declare-lab/MELD, data/MELD/dev_sent_emo.csv), and nothing else of them;
`python -m tests.bench shape dev_sent_emo.csv` writes it.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from service.conversation.dialogue import Dialogue, SpeakerIndexes, Utterance

MELD_SHAPE = Path(__file__).with_name("meld_shape.json")

# Of each dialogue, of each utterance: the speaker's number by first appearance, and words.
Shape = tuple[tuple[tuple[int, int], ...], ...]

_SPEAKERS = ("Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal", "Ida")


def shape_of(dialogues: Sequence[Dialogue]) -> Shape:
    """What is left of dialogues when the words are taken out."""
    shape = []
    for dialogue in dialogues:
        speakers = SpeakerIndexes()
        shape.append(
            tuple((speakers.of(u.speaker), len(u.text.split())) for u in dialogue.utterances)
        )
    return tuple(shape)


def read_shape(path: Path = MELD_SHAPE) -> Shape:
    """Read a shape that `write_shape` wrote."""
    rows = json.loads(path.read_text("utf-8"))["dialogues"]
    return tuple(tuple((speaker, words) for speaker, words in row) for row in rows)


def write_shape(shape: Shape, source: str, path: Path) -> None:
    """Write a shape, a dialogue a line.

    Args:
        source: where the numbers come from, for readers of the file.
    """
    rows = ",\n".join(f"    {json.dumps(row)}" for row in shape)
    path.write_text(
        "{\n"
        f'  "source": {json.dumps(source)},\n'
        '  "utterance": ["speaker by first appearance", "words"],\n'
        f'  "dialogues": [\n{rows}\n  ]\n'
        "}\n",
        encoding="utf-8",
    )


def dialogues_of_shape(shape: Shape, texts: Sequence[str], seed: str) -> tuple[Dialogue, ...]:
    """Dialogues of this shape; the same seed gives the same ones.

    Each utterance begins as one of `texts` and goes on with others until it is long enough.
    """
    rng = random.Random(seed)
    return tuple(
        Dialogue(
            f"{seed}-{number}",
            tuple(
                Utterance(_name(speaker), _words(texts, words, rng))
                for speaker, words in utterances
            ),
        )
        for number, utterances in enumerate(shape)
    )


def _words(texts: Sequence[str], count: int, rng: random.Random) -> str:
    words: list[str] = []
    while len(words) < count:
        words += rng.choice(texts).split()
    return " ".join(words[:count])


def _name(speaker: int) -> str:
    return _SPEAKERS[speaker] if speaker < len(_SPEAKERS) else f"Guest {speaker}"
