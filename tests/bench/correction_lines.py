"""Which lines are corrected and asked for: of two corpora, and rewordings of our own."""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.conversation.dialogue import Dialogue, Utterance
from training.datasets.text import Words, words

CONTEXT = 2  # lines before
LENGTHS = range(5, 21)  # words of a line that is corrected
SHORT = range(1, 3)
_TELLING = 5  # words from which on two equal lines are one scene's
REWORDINGS = Path(__file__).with_name("rewordings.jsonl")


@dataclass(frozen=True, slots=True)
class Asked:
    """A line with those before it, as a dialogue of its own.

    Attributes:
        utterances: the last one is asked for; it has its label where a corpus gave one.
        place: the corpus's dialogue that it is of, and its index there.
    """

    label_space: str
    utterances: tuple[Utterance, ...]
    place: tuple[str, int] = ("", 0)

    @property
    def line(self) -> Utterance:
        return self.utterances[-1]

    @property
    def gold(self) -> str:
        """Raises ValueError where nobody has said it."""
        if self.line.label is None:
            raise ValueError(f"{self.place}: has no label")
        return self.line.label

    @property
    def length(self) -> int:
        return len(self.line.text.split())

    def said_as(self, text: str) -> "Asked":
        """The same speaker says it in other words."""
        line = replace(self.line, text=text)
        return replace(self, utterances=(*self.utterances[:-1], line))

    def after(self, before: Sequence[Utterance]) -> "Asked":
        """The line alone, with other lines before it."""
        return replace(self, utterances=(*before, self.line))

    def later(self, before: Sequence[Utterance]) -> "Asked":
        """The line with its own context, and other lines before that."""
        return replace(self, utterances=(*before, *self.utterances))

    def seen_as(self, label_space: str) -> "Asked":
        """The same in another label space."""
        return replace(self, label_space=label_space)


@dataclass(frozen=True, slots=True)
class Rewording:
    """A line and the same said in other words.

    Attributes:
        degree: how far the words are: "near", "middle" or "far".
        labels: two that a person may give it.
    """

    degree: str
    asked: Asked
    reworded: str
    labels: tuple[str, str]


def in_context(label_space: str, dialogue: Dialogue, index: int) -> Asked:
    """One line of a dialogue with the lines before it, as many as are corrected with it."""
    lines = dialogue.utterances[max(0, index - CONTEXT) : index + 1]
    return Asked(label_space, lines, (dialogue.id, index))


def lines_of(label_space: str, dialogues: Iterable[Dialogue], lengths: range) -> list[Asked]:
    """All lines of so many words that have their whole context and a label."""
    return [
        question
        for dialogue in dialogues
        for index in range(CONTEXT, len(dialogue.utterances))
        if (question := in_context(label_space, dialogue, index)).length in lengths
        and question.line.label is not None
    ]


def candidates(
    label_space: str, dialogues: Sequence[Dialogue], each: int, seed: int
) -> list[Asked]:
    """Lines that may be corrected, at most `each` of a dialogue, those of a dialogue together."""
    rng = random.Random(seed)
    results: list[Asked] = []
    for dialogue in rng.sample(dialogues, len(dialogues)):
        lines = lines_of(label_space, [dialogue], LENGTHS)
        results += rng.sample(lines, min(each, len(lines)))
    return results


def apart_from(dialogues: Iterable[Dialogue], corrected: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues that none of the corrected ones is, in part or as a whole.

    MELD and EmoryNLP are of one television series: a scene of the one may be in the other.
    """
    known = {telling for dialogue in corrected for telling in _telling(dialogue)}
    return [dialogue for dialogue in dialogues if known.isdisjoint(_telling(dialogue))]


def beside(
    label_space: str, dialogues: Sequence[Dialogue], corrected: Sequence[Asked]
) -> list[Asked]:
    """The lines right before and after the corrected ones, of the same dialogues."""
    by_id = {dialogue.id: dialogue for dialogue in dialogues}
    taken = {question.place for question in corrected}
    results = []
    for question in corrected:
        name, index = question.place
        for near in (index - 1, index + 1):
            if near < len(by_id[name].utterances) and (name, near) not in taken:
                results.append(in_context(label_space, by_id[name], near))
    return results


def kind_of(question: Asked) -> Words:
    """What is said, word by word: "Okay!" and "okay" are of one kind."""
    return words(question.line.text)


def short_kinds(
    label_space: str, dialogues: Sequence[Dialogue], seed: int
) -> dict[Words, list[Asked]]:
    """Short lines that are said in several dialogues, by kind, one of each dialogue."""
    rng = random.Random(seed)
    lines = lines_of(label_space, dialogues, SHORT)
    kinds: dict[Words, dict[str, Asked]] = {}
    for question in rng.sample(lines, len(lines)):
        if kind_of(question):
            kinds.setdefault(kind_of(question), {}).setdefault(question.place[0], question)
    return {kind: list(result.values()) for kind, result in kinds.items() if len(result) > 1}


def read_rewordings(path: Path = REWORDINGS) -> list[Rewording]:
    """The pairs of our own writing, in MELD's labels."""
    results = []
    with path.open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            before = [
                Utterance(utterance["speaker"], utterance["text"]) for utterance in row["before"]
            ]
            line = Utterance(row["speaker"], row["text"])
            first, second = row["labels"]
            question = Asked("meld", (*before, line), (row["id"], len(before)))
            results.append(Rewording(row["degree"], question, row["reworded"], (first, second)))
    return results


def _telling(dialogue: Dialogue) -> Iterator[Words]:
    for utterance in dialogue.utterances:
        if len(spoken := words(utterance.text)) >= _TELLING:
            yield spoken
