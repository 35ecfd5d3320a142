"""Which server reads a prompt."""

from collections import Counter
from typing import Any

import pytest

from service.decoding.replicas import Replica, choose
from service.decoding.server import Address, KeyedHash, ModelServer
from service.decoding.watched import WatchedEngine

SESSIONS = [f"session-{n}" for n in range(3000)]


def replicas(count: int) -> list[Replica]:
    http: Any = None  # nothing is asked
    made = []
    for n in range(count):
        address = Address(f"http://10.0.0.{n}:8000", f"10.0.0.{n}")
        server = ModelServer(address, "erc", KeyedHash("key"), http)
        made.append(Replica(server, WatchedEngine(server)))
    return made


def chosen(among: list[Replica], session: str | None) -> str:
    replica = choose(among, session)
    assert replica is not None
    return replica.name


def test_a_dialogue_stays_with_its_server_whatever_order_they_are_listed_in() -> None:
    among = replicas(4)

    for session in SESSIONS[:50]:
        assert chosen(among, session) == chosen(among[::-1], session)


def test_each_server_has_an_equal_share_of_the_dialogues() -> None:
    """Of 3,000, within four standard deviations of a quarter."""
    among = replicas(4)
    shares = Counter(chosen(among, session) for session in SESSIONS)

    assert all(abs(count - 750) < 4 * (3000 * 0.25 * 0.75) ** 0.5 for count in shares.values())


@pytest.mark.parametrize("lost", range(4))
def test_a_server_that_goes_moves_its_own_dialogues_alone_and_gets_them_back(lost: int) -> None:
    """They are spread over those that are left."""
    among = replicas(4)
    before = {session: chosen(among, session) for session in SESSIONS}
    among[lost].watched.set_aside("it is gone")

    after = {session: chosen(among, session) for session in SESSIONS}

    moved = {session for session in SESSIONS if after[session] != before[session]}
    assert moved == {session for session in SESSIONS if before[session] == among[lost].name}
    assert len({after[session] for session in moved}) == 3
    among[lost].watched.trouble = None
    assert {session: chosen(among, session) for session in SESSIONS} == before


def test_a_server_that_comes_takes_an_equal_share_from_each() -> None:
    four, five = replicas(4), replicas(5)

    moved = [s for s in SESSIONS if chosen(four, s) != chosen(five, s)]

    assert {chosen(five, session) for session in moved} == {five[4].name}
    assert 450 < len(moved) < 750


def test_a_server_with_far_more_to_do_passes_on_what_is_too_much() -> None:
    """To the next in the dialogue's own order, so that it stays there meanwhile."""
    among = replicas(3)
    session = SESSIONS[0]
    first = next(each for each in among if each.name == chosen(among, session))
    second = chosen([each for each in among if each is not first], session)

    first.open_reads = 31
    assert chosen(among, session) == first.name
    first.open_reads = 100
    assert chosen(among, session) == second
    for replica in among:
        replica.open_reads = 100
    assert chosen(among, session) == first.name


def test_what_belongs_to_no_dialogue_goes_where_there_is_least_to_do() -> None:
    among = replicas(3)
    for replica, open_reads in zip(among, (4, 2, 3), strict=True):
        replica.open_reads = open_reads

    assert chosen(among, None) == among[1].name


def test_nothing_is_chosen_where_none_is_available() -> None:
    among = replicas(2)
    among[0].watched.set_aside("it is gone")

    assert choose(among, "session", (among[1],)) is None


def test_hashes_name_neither_tenant_nor_dialogue_and_depend_on_the_key() -> None:
    """Also where a tenant's name ends as a dialogue's begins."""
    hashed, other = KeyedHash("key"), KeyedHash("another")
    pairs: list[tuple[str | None, str]] = [
        *(("acme", "call-1"), ("acm", "ecall-1"), (None, "acmecall-1"), ("acme", "call-2"))
    ]
    hashes = {hashed.of_dialogue(pair) for pair in pairs}

    assert len(hashes) == len(pairs)
    assert hashed.of_dialogue(("acme", "call-1")) == KeyedHash("key").of_dialogue(
        ("acme", "call-1")
    )
    assert hashed.of_dialogue(("acme", "call-1")) != other.of_dialogue(("acme", "call-1"))
    # vLLM takes no more than 128 characters for a salt, and not all of them.
    assert hashed.of_tenant("a@b/c\\d" * 100).isalnum()
    assert len(hashed.of_tenant("a")) == 32
