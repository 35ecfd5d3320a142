"""Archives are files, folders and globs, on file systems of pyarrow."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="scoring on a cluster needs the extra `cluster`")

import pyarrow as pa
import pyarrow.parquet as pq

from service.cluster.archives import check_result, dialogues_of, find_archive, location_of
from service.conversation.dialogue import Dialogue, Utterance
from service.dialogue_files import Reading
from service.files import OutputError


def line(name: str) -> str:
    return json.dumps({"id": name, "utterances": [{"speaker": "Ann", "text": "Hi."}]}) + "\n"


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def ids(source: str) -> list[str]:
    """The ids of an archive's dialogues, and its errors."""
    parts = dialogues_of(find_archive(source), Reading())
    return [part.id if isinstance(part, Dialogue) else str(part) for part in parts]


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    write(
        tmp_path,
        {
            "2026-02/b.jsonl": line("d2"),
            "2026-02/a.csv": "speaker,text\nAnn,Hi.\n",
            "2026-01/c.jsonl": line("d1"),
            "2026-01/c.txt": line("d0"),
            "2026-01/_c.jsonl": line("unfinished"),
            ".2026.parts/part-0.jsonl": line("unfinished"),
            "d.jsonl": line("d3"),
        },
    )
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["d1", "d0", "a", "d2", "d3"]),
        ("2026-02", ["a", "d2"]),
        ("d.jsonl", ["d3"]),
        ("*.jsonl", ["d3"]),
        ("2026-*/*.jsonl", ["d1", "d2"]),
        ("2026-0[13]/*", ["d1", "d0"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_files_come_by_path(calls: Path, scheme: str, pattern: str, expected: list[str]) -> None:
    assert ids(f"{scheme}{calls}/{pattern}") == expected


def test_a_folder_may_be_named_from_here(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(calls)

    assert ids("2026-02") == ["a", "d2"]
    assert ids("*.jsonl") == ["d3"]


@pytest.mark.parametrize("missing", ["nowhere", "nowhere/*.jsonl", "2026-01/*.csv"])
def test_what_is_not_there_is_named(calls: Path, missing: str) -> None:
    with pytest.raises(ValueError, match=missing.split("/")[0]):
        find_archive(f"{calls}/{missing}")


def test_a_packed_file_is_unpacked_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(line("d1").encode()))

    assert ids(str(tmp_path)) == ["d1"]


def test_a_broken_file_is_an_error_between_the_others(tmp_path: Path) -> None:
    packed = gzip.compress("".join(map(line, map(str, range(1000)))).encode())
    (tmp_path / "a.jsonl").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    write(tmp_path, {"c.jsonl": line("d1") + line("d1")})

    *_, packed_error, parquet_error, first, twice = ids(str(tmp_path))

    assert packed_error.startswith(f"{tmp_path}/a.jsonl: cannot be decompressed")
    assert parquet_error.startswith(f"{tmp_path}/b.parquet: ")
    assert first == "d1"
    assert twice == f"{tmp_path}/c.jsonl:2: id 'd1' is also on line 1"


def test_a_row_of_parquet_is_a_dialogue(tmp_path: Path) -> None:
    """A field that a row does not have is null in its column."""
    rows: list[dict[str, Any]] = [
        {"id": "d1", "utterances": [{"speaker": "Ann", "text": "Hi.", "start": 1.5}]},
        {"id": "d2", "utterances": [{"speaker": None, "text": "Hi."}]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")

    first, second = dialogues_of(find_archive(str(tmp_path)), Reading())

    assert first == Dialogue("d1", (Utterance("Ann", "Hi.", start=1.5),))
    assert str(second) == f"{tmp_path}/a.parquet:2: utterances[0].speaker is missing"


def test_a_result_replaces_nothing_unasked(calls: Path) -> None:
    archive = find_archive(f"{calls}/2026-02")
    write(calls, {"out.jsonl": ""})

    check_result(location_of(f"{calls}/new.jsonl"), archive, force=False)
    check_result(location_of(f"{calls}/out.jsonl"), archive, force=True)
    with pytest.raises(OutputError, match="--force"):
        check_result(location_of(f"{calls}/out.jsonl"), archive, force=False)
    with pytest.raises(OutputError, match="no folder"):
        check_result(location_of(f"{calls}/nowhere/out.jsonl"), archive, force=True)
    with pytest.raises(OutputError, match="is read"):
        check_result(location_of(f"{calls}/2026-02/b.jsonl"), archive, force=True)
    with pytest.raises(OutputError, match="folder"):
        check_result(location_of(str(calls)), archive, force=True)


def test_an_address_of_no_file_system_is_refused_without_its_key() -> None:
    with pytest.raises(ValueError, match="nothing://bucket/calls: ") as refused:
        location_of("nothing://bucket/calls?secret_key=hidden")
    with pytest.raises(ValueError, match=r"nothing://\*\*\*@bucket") as of_user:
        location_of("nothing://me:hidden@bucket/calls")

    assert "hidden" not in f"{refused.value}{of_user.value}"
