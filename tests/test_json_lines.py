"""Files of one JSON value a line, and what is said of those that are not."""

from pathlib import Path

import pytest

from service.json_lines import read_json_lines


class Refusal(ValueError):
    """What a reader of some format refuses."""


def test_values_come_with_their_lines(tmp_path: Path) -> None:
    """Empty lines count, and are skipped; a byte order mark is no value."""
    path = tmp_path / "some.jsonl"
    path.write_bytes('\ufeff{"a": 1}\r\n\n \n["好"]'.encode())

    assert list(read_json_lines(path, Refusal)) == [(1, {"a": 1}), (4, ["好"])]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param(b'{"a": 1,', "not JSON: .* at column 9$", id="cut"),
        pytest.param(b"1 2", "not JSON: Extra data at column 3$", id="two"),
        pytest.param(b'"\xff"', "not UTF-8: invalid start byte$", id="bytes"),
        pytest.param("\ufeff1".encode(), "not JSON: ", id="mark"),
        pytest.param(b"1" * 5000, "not JSON that can be read: ", id="huge"),
        pytest.param(b"[" * 100_000, "not JSON that can be read: ", id="deep"),
    ],
)
def test_line_that_is_no_value_is_named(line: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(b"1\n" + line + b"\n")

    with pytest.raises(Refusal, match=rf"some\.jsonl:2: {problem}"):
        list(read_json_lines(path, Refusal))


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"none\.jsonl: No such file"):
        list(read_json_lines(tmp_path / "none.jsonl", Refusal))
