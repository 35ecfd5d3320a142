"""What a caller has left of a quota."""

from dataclasses import dataclass

import pytest

from service.access.callers import ANYBODY, Bucket, Caller, caller_of
from service.access.keys import Key, Scope
from service.errors import QuotaExceeded, ScopeMissing


@dataclass
class Clock:
    """A clock that is set by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def caller(clock: Clock, **quota: float) -> Caller:
    return caller_of(
        Key.model_validate(
            {
                "id": "one",
                "tenant": "acme",
                "scopes": ["read"],
                "sha256": "ab" * 32,
                "quota": quota,
            }
        ),
        clock,
    )


def test_a_bucket_gives_what_it_holds_and_then_what_flows_in() -> None:
    """It says how long it takes until there is enough, and is never more than full."""
    clock = Clock()
    bucket = Bucket(4, 2.0, clock)

    assert [bucket.take(1) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    clock.now += 0.5
    assert bucket.take(1) == 0
    clock.now += 1_000
    assert bucket.held == 4
    assert bucket.take(5) == 0.5


def test_nothing_is_taken_where_there_is_not_enough() -> None:
    """A large batch that is refused takes nothing from small ones."""
    bucket = Bucket(4, 1.0, Clock())

    assert bucket.take(3) == 0
    assert bucket.take(2) == 1.0
    assert bucket.take(1) == 0


def test_requests_come_in_bursts_and_then_steadily() -> None:
    """One more than the burst is told when to come again."""
    clock = Clock()
    asking = caller(clock, requests_per_s=0.5, burst=3)
    for _ in range(3):
        asking.spend_request()

    with pytest.raises(QuotaExceeded) as refused:
        asking.spend_request()

    assert refused.value.retry_after_s == 2.0
    clock.now += 2.0
    asking.spend_request()


def test_a_burst_is_by_default_what_one_second_allows() -> None:
    """One at least."""
    slow = caller(Clock(), requests_per_s=0.1).requests
    quick = caller(Clock(), requests_per_s=2.5).requests

    assert slow is not None
    assert quick is not None
    assert (slow.most, quick.most) == (1, 3)


def test_utterances_are_counted_by_the_minute() -> None:
    """Those of a batch all at once."""
    clock = Clock()
    asking = caller(clock, utterances_per_min=60)
    asking.spend_utterances(50)

    with pytest.raises(QuotaExceeded, match="utterances") as refused:
        asking.spend_utterances(20)

    assert refused.value.retry_after_s == pytest.approx(10.0)


def test_a_batch_is_never_larger_than_a_minute_allows() -> None:
    """It would be refused for ever."""
    assert caller(Clock(), utterances_per_min=60).batch_utterances == 60
    assert caller(Clock(), utterances_per_min=60, batch_utterances=10).batch_utterances == 10
    assert caller(Clock()).batch_utterances is None


def test_a_scope_that_is_missing_is_named() -> None:
    """`admin` is for everything."""
    reading = caller(Clock())
    reading.require(Scope.READ)
    Caller("acme", frozenset({Scope.ADMIN})).require(Scope.WRITE)

    with pytest.raises(ScopeMissing, match="write"):
        reading.require(Scope.WRITE)


def test_where_there_are_no_keys_anybody_may_do_anything() -> None:
    """As one tenant, as often as they like."""
    for scope in Scope:
        ANYBODY.require(scope)
    for _ in range(10_000):
        ANYBODY.spend_request()
        ANYBODY.spend_utterances(1_000)

    assert ANYBODY.tenant == "default"
