"""What rules would have fired on in whole dialogues, and how often that is right.

Where every utterance of a dialogue has a person's label, the same rule is read from these: a label
counts as the rule's if at least half of it does, which matters where a derived label has shares.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from service.conversation.rules import Match, Rule, Turn, firings, states

_HALF = 0.5


@dataclass(frozen=True, slots=True)
class TriedDialogue:
    """A dialogue with its answers.

    Attributes:
        turns: by the answers.
        labelled: by people's labels; None: an utterance has none.
    """

    id: str
    turns: tuple[Turn, ...]
    labelled: tuple[Turn, ...] | None


@dataclass(frozen=True, slots=True)
class Firing:
    """A turn on which a rule would have fired.

    Attributes:
        is_false: by people's labels the rule does not hold there; None: the labels are not known.
    """

    dialogue_id: str
    rule: str
    match: Match
    is_false: bool | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a rule would have done.

    Attributes:
        dialogues: how many there are.
        labelled: those of them in which people labelled every utterance.
        false: firings in labelled dialogues, where by people's labels the rule does not hold.
        wanted: how often it begins to hold in labelled dialogues by people's labels.
        missed: those of them where, until it ends by people's labels, it does not hold by the
            answers.
    """

    rule: str
    dialogues: int
    labelled: int
    firings: tuple[Firing, ...]
    false: int
    wanted: int
    missed: int

    @property
    def false_of_100(self) -> float | None:
        """False alarms in 100 dialogues; None: none is labelled."""
        return 100 * self.false / self.labelled if self.labelled else None


def try_rule(rule: Rule, dialogues: Iterable[TriedDialogue]) -> Trial:
    """Evaluate a rule on whole dialogues, whatever their tenant."""
    count = labelled = wanted = missed = 0
    fired: list[Firing] = []
    for dialogue in dialogues:
        count += 1
        truth: list[bool] | None = None
        if dialogue.labelled is not None:
            labelled += 1
            truth = states(replace(rule, probability=_HALF), dialogue.labelled)
            held = states(rule, dialogue.turns)
            episodes = list(_episodes(truth))
            wanted += len(episodes)
            missed += sum(not any(held[first:after]) for first, after in episodes)
        for match in firings(rule, dialogue.turns):
            is_false = None if truth is None else not truth[match.index]
            fired.append(Firing(dialogue.id, rule.name, match, is_false))
    false = sum(firing.is_false is True for firing in fired)
    return Trial(rule.name, count, labelled, tuple(fired), false, wanted, missed)


def _episodes(holds: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """The first index of each time that it holds, and the index after its last."""
    first: int | None = None
    for index, state in enumerate((*holds, False)):
        if state and first is None:
            first = index
        elif not state and first is not None:
            yield first, index
            first = None
