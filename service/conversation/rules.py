"""Rules: which emotion, how probable, in how many of a dialogue's last turns.

A rule looks at the turns of one speaker or role, or at all of them, and holds while enough of the
last ones match. It fires on the turn with which it begins to hold, so whether it fires depends on
that turn and on the `of_last` before it, and on nothing that a process remembers.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from service.conversation.derived import DerivedLabelSpace
from service.conversation.labels import AnyLabelSpace

MOST_TURNS = 50
"""The most turns that a rule looks back on."""

Shares = Mapping[str, Mapping[str, float]]
"""By label of a rule, the share of each label of an answer that counts towards it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What rules need of an utterance.

    Attributes:
        index: its position in the dialogue.
        label_space: of the answer.
        probabilities: of the answer, by label.
    """

    index: int
    speaker: str
    role: str | None
    label_space: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Match:
    """A turn on which a rule fires.

    Attributes:
        index: the turn's.
        label: the most probable of the rule's labels.
        probability: of the rule's labels together.
    """

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition on a dialogue's last turns, and whom to tell when it begins to hold.

    Attributes:
        labels: of `label_space`.
        shares: by label space of answers, those of the rule's labels; answers in other label spaces
            are not looked at.
        probability: the least of a matching turn, above 0 and up to 1.
        turns, of_last: of the last `of_last` turns looked at, how many must match.
        speaker, role: whose turns are looked at; None: everybody's.
        tenants: whose dialogues are looked at; None: everybody's.
        endpoint: the name of what is told.
        include_text: tell it the utterance's text, too.
    """

    name: str
    label_space: str
    labels: tuple[str, ...]
    shares: Mapping[str, Shares]
    probability: float
    turns: int
    of_last: int
    speaker: str | None
    role: str | None
    tenants: frozenset[str] | None
    endpoint: str
    include_text: bool = False

    def applies_to(self, tenant: str) -> bool:
        """Whether it looks at a tenant's dialogues."""
        return self.tenants is None or tenant in self.tenants

    def looks_at(self, turn: Turn) -> bool:
        """Whether a turn is one of those that count."""
        return (
            self.speaker in (None, turn.speaker)
            and self.role in (None, turn.role)
            and turn.label_space in self.shares
        )

    def match(self, turn: Turn) -> Match | None:
        """The match of a turn that it looks at; None: the labels are not probable enough."""
        probabilities = {
            label: math.fsum(
                share * turn.probabilities.get(part, 0.0) for part, share in parts.items()
            )
            for label, parts in self.shares[turn.label_space].items()
        }
        probability = min(1.0, math.fsum(probabilities.values()))
        if probability < self.probability:
            return None
        return Match(turn.index, max(probabilities, key=probabilities.__getitem__), probability)

    def holds(self, turns: Sequence[Turn]) -> bool:
        """Whether enough of the last turns match.

        Args:
            turns: those that it looks at, in order: the last `of_last`, or all there are; earlier
                ones do not matter.
        """
        matches = (self.match(turn) is not None for turn in turns[-self.of_last :])
        return sum(matches) >= self.turns

    def fires(self, turns: Sequence[Turn]) -> Match | None:
        """The match of the last turn, if the rule holds with it and did not before.

        Args:
            turns: as of `holds`, with one more before them.
        """
        newest = self.match(turns[-1])
        if newest is None or not self.holds(turns) or self.holds(turns[:-1]):
            return None
        return newest


def firings(rule: Rule, turns: Iterable[Turn]) -> Iterator[Match]:
    """Every match on which a rule fires in a whole dialogue."""
    looked_at: list[Turn] = []
    for turn in turns:
        if rule.looks_at(turn):
            looked_at.append(turn)
            match = rule.fires(looked_at[-rule.of_last - 1 :])
            if match is not None:
                yield match


def shares_of(
    labels: Sequence[str], space: AnyLabelSpace, others: Iterable[DerivedLabelSpace] = ()
) -> Mapping[str, Shares]:
    """The shares of labels in answers of their own label space, and of the one it is derived from.

    Args:
        others: derived label spaces with the same labels, whose answers and sources count, too;
            they come first.

    Raises:
        UnknownLabel: the label space has no such label.
    """
    names = [space.label(label).name for label in labels]
    shares: dict[str, Shares] = {}
    for each in (*others, space):
        shares[each.name] = own_shares(names)
        if isinstance(each, DerivedLabelSpace):
            shares[each.source.name] = {name: each.label(name).of for name in names}
    return MappingProxyType(shares)


def own_shares(labels: Iterable[str]) -> Shares:
    """The shares of labels in answers of their own label space."""
    return {label: {label: 1.0} for label in labels}


def states(rule: Rule, turns: Iterable[Turn]) -> list[bool]:
    """Whether the rule holds after each turn of a whole dialogue."""
    looked_at: list[Turn] = []
    holds, state = [], False
    for turn in turns:
        if rule.looks_at(turn):
            looked_at.append(turn)
            state = rule.holds(looked_at)
        holds.append(state)
    return holds
