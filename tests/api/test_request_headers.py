"""What a client would like, in its `Prefer` headers."""

import pytest

from service.api.request_headers import preferred_wait, prefers_async


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ([], None),
        (["wait=5"], 5),
        (["respond-async, WAIT = 10; foo=bar"], 10),
        (["handling=lenient", 'wait="7"'], 7),
        (["wait", "wait=", "wait=-1", "wait=soon", "waiter=3"], None),
    ],
)
def test_the_wait_is_read_from_among_other_preferences(
    fields: list[str], seconds: int | None
) -> None:
    """What is no number of seconds is passed over."""
    assert preferred_wait(fields) == seconds


@pytest.mark.parametrize(
    ("fields", "later"),
    [
        ([], False),
        (["respond-async"], True),
        (["wait=5, Respond-Async; foo=bar"], True),
        (["handling=lenient", "respond-async"], True),
        (["respond-asynchronously", "wait=respond-async"], False),
    ],
)
def test_an_answer_before_the_work_is_asked_for_by_name(fields: list[str], later: bool) -> None:
    """Among others, in any case."""
    assert prefers_async(fields) == later
