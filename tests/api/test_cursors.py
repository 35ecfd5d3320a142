"""Places in lists, as clients send them back."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from service.api.cursors import decoded, dialogue_in, encoded, moment_in, number_in

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.mark.parametrize("number", [0.1 + 0.2, 0.0, 1.0, 5e-324, -0.3])
def test_a_place_comes_back_exactly(number: float) -> None:
    """To the last digit and the microsecond, in characters that a query takes as they are."""
    cursor = encoded([number, MOMENT, "ä/?&=", 7])

    assert quote(cursor, safe="") == cursor
    value, moment, dialogue_id, index = decoded(cursor)
    assert (number_in(value), moment_in(moment)) == (number, MOMENT)
    assert (dialogue_in(dialogue_id), index) == ("ä/?&=", 7)


@pytest.mark.parametrize("cursor", ["", "!", "ä", "W", "WzE", "bm90IEpTT04"])
def test_other_text_is_no_place(cursor: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decoded(cursor)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (number_in, 1),
        (number_in, "0.5"),
        (number_in, True),
        (number_in, None),
        (moment_in, 0.5),
        (moment_in, "yesterday"),
        (moment_in, "2026-01-02T03:04:05"),
        (moment_in, "2026-01-02T03:04:05+01:00"),
        (dialogue_in, 7),
        (dialogue_in, "a\0b"),
    ],
)
def test_other_values_are_no_part_of_a_place(read: Any, value: object) -> None:
    with pytest.raises(ValueError, match=r"no |not |Invalid "):
        read(value)
