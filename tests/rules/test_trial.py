"""What rules would have done in whole dialogues, and how right that is."""

from dataclasses import replace
from typing import Any

from service.conversation.rules import Rule, Turn, own_shares
from service.rules.trial import TriedDialogue, try_rule
from tests.dialogues.webhooks.told import rule


def dialogue(
    name: str, angers: list[float], truth: list[bool] | None = None, **more: Any
) -> TriedDialogue:
    """With probabilities of anger, and whether people say anger (else neutral)."""
    turns = tuple(
        Turn(index, "Ann", None, "meld", {"anger": anger, "neutral": 1 - anger})
        for index, anger in enumerate(angers)
    )
    if truth is None:
        return TriedDialogue(name, turns, None)
    labelled = tuple(
        replace(turn, probabilities={"anger" if angry else "neutral": 1.0})
        for turn, angry in zip(turns, truth, strict=True)
    )
    return TriedDialogue(name, turns, labelled)


NO, YES = False, True


def test_false_and_missed_are_counted_where_people_labelled() -> None:
    trial = try_rule(
        rule(turns=2, of_last=2),
        [
            dialogue("right", [0.9, 0.9, 0.1], [YES, YES, NO]),
            # It begins to hold a turn late, which is neither false nor missed.
            dialogue("late", [0.1, 0.9, 0.9], [YES, YES, YES]),
            dialogue("false", [0.9, 0.9, 0.1], [YES, NO, NO]),
            dialogue("missed", [0.9, 0.1, 0.9, 0.9], [YES, YES, NO, NO]),
            dialogue("unlabelled", [0.9, 0.9]),
        ],
    )

    fired = [(each.dialogue_id, each.match.index, each.is_false) for each in trial.firings]
    assert fired == [
        ("right", 1, False),
        ("late", 2, False),
        ("false", 1, True),
        ("missed", 3, True),
        ("unlabelled", 1, None),
    ]
    assert (trial.dialogues, trial.labelled) == (5, 4)
    assert (trial.false, trial.wanted, trial.missed) == (2, 3, 1)
    assert trial.false_of_100 == 50.0


def test_the_threshold_is_of_probabilities_not_of_peoples_labels() -> None:
    trial = try_rule(rule(probability=0.95), [dialogue("a", [0.9], [YES])])

    assert (len(trial.firings), trial.wanted, trial.missed) == (0, 1, 1)


def test_a_label_with_shares_counts_if_half_of_it_does() -> None:
    """Of MELD's surprise, 51% is negative."""
    shares = {"meld": {"negative": {"surprise": 0.51, "anger": 1.0}}}
    negative: Rule = replace(rule(), shares=shares, labels=("negative",), probability=0.9)
    surprised = Turn(0, "Ann", None, "meld", {"surprise": 1.0})

    trial = try_rule(negative, [TriedDialogue("a", (surprised,), (surprised,))])

    assert (len(trial.firings), trial.wanted, trial.missed) == (0, 1, 1)
    assert own_shares(["joy"]) == {"joy": {"joy": 1.0}}


def test_without_labels_nothing_is_false() -> None:
    trial = try_rule(rule(), [dialogue("a", [0.9])])

    assert (trial.false_of_100, trial.false, trial.missed) == (None, 0, 0)
