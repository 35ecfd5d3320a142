"""On which turn of a dialogue a rule fires."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.conversation.derived import load_derived_label_spaces
from service.conversation.labels import UnknownLabel, load_label_spaces
from service.conversation.rules import Match, Rule, Turn, firings, own_shares, shares_of

FOLDER = Path(__file__).parents[2] / "data" / "label_spaces"
SPACES = load_label_spaces(FOLDER)
DERIVED = load_derived_label_spaces(FOLDER, SPACES)


def rule(turns: int = 1, of_last: int = 1, probability: float = 0.5) -> Rule:
    return Rule(
        name="angry",
        label_space="meld",
        labels=("anger",),
        shares={"meld": own_shares(["anger"])},
        probability=probability,
        turns=turns,
        of_last=of_last,
        speaker=None,
        role=None,
        tenants=None,
        endpoint="crm",
    )


def turn(index: int, anger: float, speaker: str = "Ann", role: str | None = None) -> Turn:
    return Turn(index, speaker, role, "meld", {"anger": anger, "neutral": 1 - anger})


def fired(rule: Rule, angers: Sequence[float]) -> list[int]:
    return [match.index for match in firings(rule, map(turn, range(len(angers)), angers))]


def test_a_rule_fires_once_while_it_holds() -> None:
    """And again once it has not held in between."""
    assert fired(rule(), [0.1, 0.9, 0.9, 0.9, 0.2, 0.5, 0.9]) == [1, 5]


def test_enough_of_the_last_turns_must_match() -> None:
    """Also where the dialogue has fewer turns than are looked at."""
    three_of_five = rule(3, 5)

    assert fired(three_of_five, [1, 1, 1]) == [2]
    assert fired(three_of_five, [1, 0, 1, 0, 1]) == [4]
    assert fired(three_of_five, [1, 0, 0, 1, 0, 1, 0]) == []
    # It holds until only two of the three are among the last five turns.
    assert fired(three_of_five, [1, 1, 1, 0, 0, 0, 1, 1, 1]) == [2, 8]
    assert fired(three_of_five, [1, 1, 1, 0, 0, 1, 1, 1]) == [2]


def test_only_turns_of_the_speaker_and_role_count() -> None:
    """Others are no turns: they neither match nor push turns out of sight."""
    turns = [
        turn(0, 1, "Ann", "customer"),
        *(turn(n, 1, "Bob", "agent") for n in range(1, 6)),
        turn(6, 1, "Ann", "customer"),
        turn(7, 1, "Ann", None),
    ]

    assert [m.index for m in firings(replace(rule(2, 2), role="customer"), turns)] == [6]
    assert [m.index for m in firings(replace(rule(3, 3), speaker="Ann"), turns)] == [7]
    assert [m.index for m in firings(rule(2, 2), turns)] == [1]


def test_the_probability_is_that_of_all_labels_together() -> None:
    upset = replace(
        rule(), labels=("anger", "fear"), shares={"meld": own_shares(["anger", "fear"])}
    )
    together = Turn(3, "Ann", None, "meld", {"anger": 0.2, "fear": 0.375, "neutral": 0.425})

    assert upset.match(together) == Match(3, "fear", 0.575)
    assert replace(upset, probability=0.58).match(together) is None


def test_a_derived_label_is_read_from_both_label_spaces() -> None:
    """`sentiment` as such, and as the sum of the unified labels; not from another label space."""
    shares = shares_of(["Negative"], DERIVED["sentiment"])
    negative = replace(rule(), label_space="sentiment", labels=("negative",), shares=shares)
    unified = {"sad": 0.2, "mad": 0.2, "powerful": 0.4, "joyful": 0.2}

    match = negative.match(Turn(0, "Ann", None, "unified", unified))
    assert match is not None
    assert match.label == "negative"
    assert match.probability == pytest.approx(0.2 + 0.2 + 0.4 * 0.35)
    assert negative.match(Turn(0, "Ann", None, "sentiment", {"negative": 0.7})) == Match(
        0, "negative", 0.7
    )
    assert not negative.looks_at(turn(0, 1))


def test_an_unknown_label_is_refused() -> None:
    with pytest.raises(UnknownLabel, match="'rage' is not a label of meld"):
        shares_of(["rage"], SPACES["meld"])


@given(
    st.lists(st.booleans(), max_size=40),
    st.integers(1, 6).flatmap(lambda turns: st.tuples(st.just(turns), st.integers(turns, 8))),
)
def test_a_rule_fires_where_a_count_over_the_whole_dialogue_begins_to_suffice(
    matches: list[bool], numbers: tuple[int, int]
) -> None:
    """Although only the turns just before are looked at."""
    turns, of_last = numbers
    holds = [
        sum(matches[max(0, end - of_last) : end]) >= turns for end in range(1, len(matches) + 1)
    ]
    begins = [n for n, held in enumerate(holds) if held and not (n and holds[n - 1])]

    assert fired(rule(turns, of_last), [float(match) for match in matches]) == begins
