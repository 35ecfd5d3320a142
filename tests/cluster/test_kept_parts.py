"""What is done is kept, and becomes the result when all is."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="scoring on a cluster needs the extra `cluster`")

import pyarrow.parquet as pq

from service.cluster.archives import location_of
from service.cluster.kept_parts import Summary, has_begun, kept_parts
from service.files import OutputError
from service.json_lines import line_of
from service.scored_files import Output

PLAN = {"input": "a", "bundle": "b"}
LABELS = ("neutral", "joy")
EMOTION = {
    "label_space": "meld",
    "label": "joy",
    "unified": "joyful",
    "confidence": 0.75,
    "probabilities": {"neutral": 0.25, "joy": 0.75},
    "label_mass": 0.5,
}
UTTERANCE = {
    "speaker": "Ann",
    "text": "We won!",
    "start": 1.5,
    "emotion": EMOTION,
    "model_alone": None,
    "demonstrations": [
        {
            "id": "m1",
            "text": "Hi.",
            "label": "joy",
            "similarity": 0.5,
            "weight": 0.0,
            "shown": True,
        }
    ],
    "model": {"bundle": "mini", "version": "1", "template": "v2"},
    "degraded": ["language"],
    "truncated": False,
}
ROWS: Sequence[Any] = (
    {"id": "d1", "utterances": [UTTERANCE]},
    {"error": "in.jsonl:2: id is missing"},
    {"id": "d3", "utterances": [UTTERANCE, UTTERANCE]},
)


def keep(target: Path, *numbers: int, force: bool = False) -> set[int]:
    """Keep rows, a part each, in a job of its own; return what was kept before."""
    with kept_parts(location_of(str(target)), PLAN, force=force) as parts:
        before = set(parts.numbers)
        for number in numbers:
            error = [ROWS[number]["error"]] if "error" in ROWS[number] else []
            parts.keep(number, [line_of(ROWS[number])], Summary(1, 1, 0, error))
        return before


def assemble(target: Path, output: Output | None) -> list[Summary]:
    with kept_parts(location_of(str(target)), PLAN, force=False) as parts:
        return list(parts.assemble(len(ROWS), output, LABELS))


def without_nulls(value: Any) -> Any:
    match value:
        case dict():
            return {name: without_nulls(each) for name, each in value.items() if each is not None}
        case list():
            return [without_nulls(each) for each in value]
    return value


def test_the_result_is_in_order_however_parts_were_done(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    assert keep(target, 2) == set()
    assert keep(target, 0, 1) == {2}
    assert not target.exists()

    summaries = assemble(target, Output.JSONL)

    assert target.read_text("utf-8") == "".join(map(line_of, ROWS))
    assert [list(summary.refused) for summary in summaries] == [[], [ROWS[1]["error"]], []]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_table_has_a_row_for_an_utterance(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    keep(target, 0, 1, 2)

    assemble(target, Output.CSV)

    rows = [*csv.DictReader(target.read_text("utf-8").splitlines())]
    assert [(row["dialogue"], row["p_joy"]) for row in rows] == [
        ("d1", "0.75"),
        ("d3", "0.75"),
        ("d3", "0.75"),
    ]


def test_parquet_has_all_that_lines_have(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    keep(target, 0, 1, 2)

    assemble(target, None)

    assert without_nulls(pq.read_table(target).to_pylist()) == without_nulls(list(ROWS))


def test_parts_of_another_job_are_not_mixed_in(tmp_path: Path) -> None:
    """Unless it is to begin again."""
    target = tmp_path / "out.jsonl"
    location = location_of(str(target))
    keep(target, 0)
    other = PLAN | {"bundle": "c"}
    assert has_begun(location, PLAN)
    assert not has_begun(location, other)

    with (
        pytest.raises(OutputError, match="another bundle"),
        kept_parts(location, other, force=False),
    ):
        pass
    with kept_parts(location, other, force=True) as parts:
        assert parts.numbers == set()
    assert has_begun(location, other)


def test_two_jobs_do_not_work_on_one_result(tmp_path: Path) -> None:
    location = location_of(str(tmp_path / "out.jsonl"))

    with (
        kept_parts(location, PLAN, force=False),
        pytest.raises(OutputError, match="another job"),
        kept_parts(location, PLAN, force=False),
    ):
        pass


def test_a_result_that_fails_leaves_the_older_one(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_text("older")
    keep(target, 0)

    with pytest.raises(OSError, match="part-00000001"):
        assemble(target, Output.JSONL)

    assert target.read_text() == "older"
    assert keep(target) == {0}
    assert json.loads((tmp_path / ".out.jsonl.parts" / "plan.json").read_text()) == PLAN
