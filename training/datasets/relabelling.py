"""Dialogues with other labels than their corpus gives them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from service.conversation.dialogue import Dialogue
from service.conversation.labels import UNIFIED, LabelSpace
from training.datasets.reading import Corpus


def in_label_space(corpus: Corpus, label_space: LabelSpace) -> Sequence[Dialogue]:
    """The corpus's dialogues labelled in a label space; none where it has no labels there."""
    if corpus.label_space.name == label_space.name:
        return corpus.dialogues
    if label_space.name == UNIFIED:
        return with_unified_labels(corpus.dialogues, corpus.label_space)
    return ()


def with_unified_labels(
    dialogues: Iterable[Dialogue], label_space: LabelSpace
) -> tuple[Dialogue, ...]:
    """The dialogues with each label replaced by the unified one it maps to."""

    def unified(_: int, label: str | None) -> str | None:
        return None if label is None else label_space.label(label).unified

    return tuple(relabelled(dialogue, unified) for dialogue in dialogues)


def relabelled(dialogue: Dialogue, label_of: Callable[[int, str | None], str | None]) -> Dialogue:
    """The dialogue with other labels.

    Args:
        label_of: the new label of an utterance, by its place in the dialogue and the old one.
    """
    return replace(
        dialogue,
        utterances=tuple(
            replace(utterance, label=label_of(index, utterance.label))
            for index, utterance in enumerate(dialogue.utterances)
        ),
    )
