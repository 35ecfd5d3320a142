"""Files of one JSON value a line, what else is read, and what is said of all others."""

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from service import text_lines
from service.json_lines import read_each, read_json_lines


class Refusal(ValueError):
    """What a reader of some format refuses."""


def test_values_come_with_their_lines(tmp_path: Path) -> None:
    """Empty lines count, and are skipped; a byte order mark is no value."""
    path = tmp_path / "some.jsonl"
    path.write_bytes('\ufeff{"a": 1}\r\n\n \n["好"]'.encode())

    assert list(read_json_lines(path, Refusal)) == [("1", {"a": 1}), ("4", ["好"])]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param(b'{"a": 1,', "not JSON: .* at column 9$", id="cut"),
        pytest.param(b"1 2", "not JSON: Extra data at column 3$", id="two"),
        pytest.param(b'"\xff"', "not UTF-8: invalid start byte$", id="bytes"),
        pytest.param(b"1" * 5000, "cannot be read as JSON: ", id="huge"),
        pytest.param(b"[" * 100_000, "cannot be read as JSON: ", id="deep"),
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


VALUES: list[Any] = [{"id": "a", "said": [{"text": "Ça va?\\n"}]}, {"id": "好"}]
LINES = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in VALUES)
SPREAD = json.dumps(VALUES, ensure_ascii=False, indent=1)


@pytest.mark.parametrize(
    ("content", "places"),
    [
        *(
            pytest.param(LINES.encode(encoding), ["1", "2"], id=encoding)
            for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le")
        ),
        pytest.param(gzip.compress(LINES.encode()), ["1", "2"], id="gzip"),
        pytest.param(gzip.compress(LINES.encode("utf-16")), ["1", "2"], id="gzip of utf-16"),
        pytest.param(("\ufeff" + LINES.replace("\n", "\n\ufeff")).encode(), ["1", "2"], id="marks"),
        pytest.param(json.dumps(VALUES).encode(), ["1, item 1", "1, item 2"], id="array"),
        pytest.param(b"\n\n" + SPREAD.encode(), ["4, item 1", "12, item 2"], id="array over lines"),
        pytest.param(
            b"".join(json.dumps(each, indent=1).encode() + b"\n" for each in VALUES),
            ["1", "9"],
            id="values over lines",
        ),
        pytest.param(
            b"[\n" + b",\n".join(json.dumps(each).encode() for each in VALUES) + b"\n]",
            ["2, item 1", "3, item 2"],
            id="an item a line",
        ),
    ],
)
def test_what_other_programs_write_is_read(
    content: bytes, places: list[str], tmp_path: Path
) -> None:
    """Each value with the place that it has in an editor."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(content)

    assert list(read_json_lines(path, Refusal)) == list(zip(places, VALUES, strict=True))


def test_a_file_that_can_be_read_but_once_is_read(tmp_path: Path) -> None:
    """Such as what another program writes meanwhile."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writing = threading.Thread(target=path.write_text, args=(SPREAD,))
    writing.start()

    values = [value for _, value in read_json_lines(path, Refusal)]

    writing.join()
    assert values == VALUES


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", b"[\n]\n", "\ufeff".encode()])
def test_a_file_may_hold_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_bytes(content)

    assert list(read_json_lines(path, Refusal)) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b'{"a": 1, "a": 2}', r"some\.jsonl:1: 'a' is given twice", id="twice"),
        pytest.param(
            b'[\n{"a": {"b": 1, "b": 2}}\n]', "'b' is given twice in one object", id="twice within"
        ),
        pytest.param(SPREAD.encode()[:-3], r"some\.jsonl:13: not JSON: ", id="cut"),
        pytest.param(b'[\n{"a": 1},\n]', r"some\.jsonl:3: not JSON: .* at column 1$", id="comma"),
        pytest.param(b'[\n{"a": 1}\n{"a": 2}]', r"some\.jsonl:3: not JSON: Expecting ','", id="no"),
        pytest.param(b"[\n" * 100_000, "cannot be read as JSON", id="deep"),
        pytest.param(LINES.encode("utf-16")[:-1], "not UTF-16.*: truncated data$", id="utf-16"),
        pytest.param(gzip.compress(b"{}")[:-3], "cannot be decompressed with gzip: ", id="gzip"),
        pytest.param(
            gzip.compress(b"{}") + b"x", "cannot be decompressed with gzip: ", id="behind"
        ),
        pytest.param(
            b"{\n" + b"1\n" * 2000, "one value has more than 64 MiB; write one", id="whole"
        ),
        pytest.param(
            b'"' + b"x" * 2000, "jsonl:1: the line has more than 64 MiB; write", id="line"
        ),
        pytest.param(
            gzip.compress(b"x" * 9_000_000), "jsonl:1: the line has more than 64 MiB", id="bomb"
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    content: bytes, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the line that is broken; no more of it is held than is allowed."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(content)
    if b"[" not in content:
        monkeypatch.setattr(text_lines, "MOST_BYTES", 1000)

    with pytest.raises(Refusal, match=problem):
        list(read_json_lines(path, Refusal))


@pytest.mark.parametrize("broken", [b'{"a": ', b'{"a": "b\n"}', b"[1, ", b"\xff", b"Hello."])
@pytest.mark.parametrize("before", [b"", b'{"n": 1}\n'])
def test_a_broken_line_concerns_no_other(before: bytes, broken: bytes, tmp_path: Path) -> None:
    """Wherever it stands."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(before + broken + b'\n{"n": 2}\n{"n": 3}\n')

    values = [value for _, value in read_each(path, Refusal)]

    assert [value["n"] for value in values if isinstance(value, dict)][-2:] == [2, 3]
    assert any(isinstance(value, Refusal) for value in values)


def test_lines_with_a_name_twice_cost_those_lines_only(tmp_path: Path) -> None:
    """They are objects, so the file is no document of values over several lines."""
    path = tmp_path / "some.jsonl"
    path.write_text(2 * '{"a": 1, "a": 2}\n' + LINES)

    told = [(place, isinstance(value, Refusal)) for place, value in read_each(path, Refusal)]

    assert told == [("1", True), ("2", True), ("3", False), ("4", False)]
