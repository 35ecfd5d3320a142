"""What the log says of errors from outside, and what it never says."""

import logging

import pytest

from service.failures import Failures, cause_of, log_cause

log = logging.getLogger("a part")


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """An error as it is when it was raised, from another one."""
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_kinds_and_messages_of_a_chain_are_on_one_line() -> None:
    """What brought an error about is often all that helps; what says the same is said once."""
    cause = raised(ConnectionRefusedError(111, "Connection refused"))
    again = raised(ConnectionRefusedError(111, "Connection refused"), cause)

    assert cause_of(raised(RuntimeError("no\nway"), again)) == (
        "RuntimeError: no, from ConnectionRefusedError: [Errno 111] Connection refused"
    )
    assert cause_of(TimeoutError()) == "TimeoutError"


def test_a_suppressed_context_is_no_cause() -> None:
    """`from None` means it."""
    outer = raised(ValueError("outer"))
    outer.__context__, outer.__suppress_context__ = KeyError("inner"), True

    assert cause_of(outer) == "ValueError: outer"


def test_values_on_further_lines_are_left_out() -> None:
    """Database drivers and validators put what they were given there."""
    error = ValueError("1 validation error for Row\ntext\n  input_value='We won!'")

    assert cause_of(error) == "ValueError: 1 validation error for Row"


def test_a_heading_is_told_with_the_line_that_follows() -> None:
    """gRPC's first line says nothing."""
    error = ValueError("<AioRpcError of RPC that terminated with:\n\tstatus = UNAVAILABLE\n\tx")

    assert cause_of(error) == (
        "ValueError: <AioRpcError of RPC that terminated with: status = UNAVAILABLE"
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no route to https://ann:hush@db:5432/x", "no route to https://***@db:5432/x"),
        ("postgresql+asyncpg://hush@db/x", "postgresql+asyncpg://***@db/x"),
        ("bad dsn: host=db password=hush user=ann", "bad dsn: host=db password=*** user=ann"),
        ("{'api-key': 'hush', 'a': 'b'}", "{'api-key': '***', 'a': 'b'}"),
        ("Authorization: Bearer hush; rest", "Authorization: ***; rest"),
        ("https://db/?api_key=hush&a=b", "https://db/?api_key=***&a=b"),
        ("the key erc_aB-3_hush is old", "the key *** is old"),
    ],
)
def test_secrets_are_left_out(message: str, told: str) -> None:
    """Passwords in addresses, and what is called a password, a token or a key."""
    assert cause_of(ValueError(message)) == f"ValueError: {told}"


def test_a_long_message_is_cut() -> None:
    """Servers answer whole pages."""
    assert len(cause_of(ValueError("x" * 10_000))) < 400


def test_a_cause_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """With what it stopped."""
    log_cause(log, "nothing is migrated", OSError(28, "No space left on device"))

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.message == ("nothing is migrated: OSError: [Errno 28] No space left on device")


def test_a_part_that_goes_on_failing_is_logged_once_for_each_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And anew, once it has worked meanwhile."""
    failures = Failures(log, "the database")

    for _ in range(3):
        failures.failed(TimeoutError())
        failures.failed(ConnectionResetError("reset"))
    assert [record.message for record in caplog.records] == [
        "the database fails: TimeoutError",
        "the database fails: ConnectionResetError: reset",
    ]

    failures.worked()
    failures.failed(TimeoutError())
    assert len(caplog.records) == 3
