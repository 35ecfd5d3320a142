"""Dialogues of a file with their answers, on which rules are tried."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from service.conversation.dialogue import Dialogue
from service.conversation.rules import Rule, Turn
from service.dialogue_files import DialogueFormatError, dialogue_from_json
from service.json_lines import read_json_lines
from service.rules.trial import TriedDialogue


class NotScored(ValueError):
    """The file holds no answers, or answers that the rules do not read; the message says which."""


def scored_dialogues(file: Path) -> Iterator[TriedDialogue]:
    """The dialogues of a file that `instructerc score` has written as JSON lines.

    Raises:
        DialogueFormatError: the file cannot be read, or a line is not a dialogue.
        NotScored: an utterance has no answer.
    """
    for place, value in read_json_lines(file, DialogueFormatError):
        try:
            dialogue = dialogue_from_json(value)
        except DialogueFormatError as error:
            raise DialogueFormatError(f"{file}:{place}: {error}") from None
        try:
            turns = _turns(dialogue, value["utterances"])
        except NotScored as error:
            raise NotScored(f"{file}:{place}: {error}") from None
        yield TriedDialogue(dialogue.id, turns, _labelled(dialogue, turns))


def answered_in(rules: Sequence[Rule]) -> str | None:
    """A label space whose answers all rules read; None: there is none.

    The last one, which the first rule's labels are of, or are sums of.
    """
    spaces = [list(rule.shares) for rule in rules]
    common = [space for space in spaces[0] if all(space in each for each in spaces)]
    return common[-1] if common else None


def _turns(dialogue: Dialogue, rows: Sequence[Any]) -> tuple[Turn, ...]:
    turns = []
    for index, (utterance, row) in enumerate(zip(dialogue.utterances, rows, strict=True)):
        emotion = row.get("emotion")
        match emotion:
            case {"label_space": str(space), "probabilities": dict(probabilities)} if all(
                isinstance(each, int | float) for each in probabilities.values()
            ):
                turns.append(Turn(index, utterance.speaker, utterance.role, space, probabilities))
            case _:
                raise NotScored(f"utterances[{index}] has no emotion")
    return tuple(turns)


def _labelled(dialogue: Dialogue, turns: Sequence[Turn]) -> tuple[Turn, ...] | None:
    labelled = []
    for utterance, turn in zip(dialogue.utterances, turns, strict=True):
        if utterance.label is None or utterance.label.casefold() not in turn.probabilities:
            return None
        probabilities = {utterance.label.casefold(): 1.0}
        labelled.append(Turn(turn.index, turn.speaker, turn.role, turn.label_space, probabilities))
    return tuple(labelled)
