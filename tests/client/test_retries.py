"""How long a client waits before it asks again, and when it gives up."""

import pytest

from instructerc import Invalid, Retries, TooMany, Unavailable, UnexpectedAnswer, Unreachable
from instructerc.errors import refusal
from instructerc.models import Problem

PROBLEM = Problem(type="/problems/x", title="", status=503, detail="")
RETRIES = Retries(attempts=6, first_wait_s=1, longest_wait_s=10)


@pytest.mark.parametrize(
    ("attempt", "least", "most"), [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (4, 4, 8), (5, 5, 10)]
)
def test_waits_double_up_to_the_longest(attempt: int, least: float, most: float) -> None:
    """Of many clients, no two wait alike."""
    waits = {RETRIES.wait_s(attempt, Unreachable()) for _ in range(20)}

    assert len(waits) > 10
    assert all(wait is not None and least <= wait <= most for wait in waits)


def test_what_cannot_help_is_not_repeated() -> None:
    assert RETRIES.wait_s(1, Invalid(PROBLEM)) is None
    assert RETRIES.wait_s(1, UnexpectedAnswer()) is None
    assert RETRIES.wait_s(1, TooMany(PROBLEM)) is None  # a limit of what is stored
    assert RETRIES.wait_s(6, Unreachable()) is None
    assert RETRIES.wait_s(10**6, Unreachable()) is None


def test_the_service_says_how_long_at_least() -> None:
    assert RETRIES.wait_s(1, TooMany(PROBLEM, 7)) == 7
    wait_s = RETRIES.wait_s(1, Unavailable(PROBLEM, 0))
    assert wait_s is not None
    assert 0.5 <= wait_s <= 1
    assert RETRIES.wait_s(1, TooMany(PROBLEM, 11)) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None), ("-1", None)],
)
def test_retry_after_has_seconds_or_a_date(value: str, seconds: float | None) -> None:
    error = refusal(503, "Busy", {"retry-after": value}, b"")

    assert error.retry_after_s == seconds
    assert error.problem.title == "Busy"
