"""Selects the dialogues that a bundle is evaluated on, by label space."""

from collections.abc import Container, Sequence
from pathlib import Path

from service.conversation.dialogue import Dialogue
from service.conversation.labels import LabelSpace
from service.conversation.prompts import Task
from training.datasets.errors import DatasetError
from training.datasets.reading import Corpus
from training.datasets.relabelling import with_unified_labels

Questions = list[tuple[LabelSpace, tuple[Dialogue, ...]]]


def by_label_space(
    corpora: Sequence[Corpus], trained: Container[str], unified: LabelSpace | None = None
) -> Questions:
    """The dialogues of all corpora, each label space once: in their own, then in unified labels.

    Args:
        trained: what the bundle was trained on; where `unified` is asked for, a corpus whose own
            label space is not among them is asked in that alone.
        unified: that label space, if all corpora are to be asked in it.

    Raises:
        DatasetError: two dialogues of one label space have the same id.
    """
    own = [
        (corpus.path, corpus.label_space, corpus.dialogues)
        for corpus in corpora
        if unified is None
        or (corpus.label_space.name in trained and corpus.label_space.name != unified.name)
    ]
    mapped = [
        (corpus.path, unified, with_unified_labels(corpus.dialogues, corpus.label_space))
        for corpus in corpora
        if unified is not None
    ]
    spaces: dict[str, LabelSpace] = {}
    by_space: dict[str, dict[str, Dialogue]] = {}
    sources: dict[tuple[str, str], Path] = {}
    for path, space, dialogues in (*own, *mapped):
        spaces[space.name] = space
        together = by_space.setdefault(space.name, {})
        for dialogue in dialogues:
            if dialogue.id in together:
                raise DatasetError(
                    f"{path}: dialogue {dialogue.id!r} is also in "
                    f"{sources[space.name, dialogue.id]}: predictions in {space.name} could not "
                    "tell them apart"
                )
            together[dialogue.id] = dialogue
            sources[space.name, dialogue.id] = path
    return [(spaces[name], tuple(together.values())) for name, together in by_space.items()]


def check_labelled(corpus: Corpus, task: Task = "main") -> None:
    """Check that a corpus has a label to score by.

    Raises:
        DatasetError: it has none, or none that the task asks for.
    """
    first = 1 if task == "prediction" else 0  # a dialogue's first turn is not forecast
    if all(u.label is None for d in corpus.dialogues for u in d.utterances[first:]):
        what = "utterance after the first of a dialogue" if first else "utterance"
        raise DatasetError(f"{corpus.path}: no {what} has a label")
