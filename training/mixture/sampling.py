"""A share of the labels, for what a model learns from fewer of them (Figure 5 of InstructERC)."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from service.conversation.dialogue import Dialogue
from training.datasets.reading import Corpus
from training.datasets.relabelling import relabelled
from training.recipe import Sample


def sampled(corpora: Sequence[Corpus], sample: Sample, seed: int) -> list[Corpus]:
    """The corpora with the labels of a share of their utterances, one at least.

    The others are context: what has no label trains nothing, is no demonstration, and teaches no
    classifier.

    Args:
        seed: draws them.
    """
    if sample.share == 1:
        return list(corpora)
    rows = [
        [
            (number, place, index)
            for place, dialogue in enumerate(corpus.dialogues)
            for index, utterance in enumerate(dialogue.utterances)
            if utterance.label is not None
        ]
        for number, corpus in enumerate(corpora)
    ]
    if sample.of == "all":
        rows = [[row for of_corpus in rows for row in of_corpus]]
    random = Random(seed)
    drawn = {
        row
        for of_corpus in rows
        for row in random.sample(of_corpus, max(1, int(len(of_corpus) * sample.share)))
    }

    def known(number: int, place: int, dialogue: Dialogue) -> Dialogue:
        return relabelled(
            dialogue, lambda index, label: label if (number, place, index) in drawn else None
        )

    return [
        replace(corpus, dialogues=tuple(known(number, *row) for row in enumerate(corpus.dialogues)))
        for number, corpus in enumerate(corpora)
    ]
