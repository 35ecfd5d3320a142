"""Files are scored as they are read: in order, in portions, with errors in their places."""

import csv
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import offline
from service.dialogue_files import Reading
from service.offline import Scored, score_file
from service.recognition.pipeline import Recognizer
from service.scored_files import Output, output_of
from service.settings import Settings
from service.transcripts.segments import Joining
from tests.transcripts.reading import FILES


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch, recognizer: Recognizer) -> None:
    """The recognizer, whose engine is scripted, in place of a model."""

    @asynccontextmanager
    async def open_parts(*_: object, **__: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(recognizer=recognizer, derived={})

    monkeypatch.setattr(offline, "open_parts", open_parts)
    monkeypatch.setattr(offline, "load_served_bundle", lambda *_: recognizer.bundle)


async def score(source: Path, target: Path, joining: Joining | None = None) -> Scored:
    return await score_file(
        Settings.model_construct(),
        source,
        target,
        "meld",
        lambda _: None,
        target.parent,
        demonstrations=True,
        reading=Reading(joining=joining or Joining()),
        output=output_of(target),
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_lines_come_in_their_order_with_errors_in_their_places(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"

    scored = await score(FILES / "jsonl" / "mixed.jsonl", target)

    problem = f"{FILES}/jsonl/mixed.jsonl:3: segments[0].text is missing"
    assert scored == Scored(utterances=3, truncated=0, refusals=1, refused=(problem,))
    first, second, third, fourth = lines_of(target)
    assert [first["id"], second["id"], fourth["id"]] == ["d1", "mixed:2", "mixed:4"]
    assert third == {"error": problem}
    (row,) = second["utterances"]
    assert (row["speaker"], row["text"], row["start"], row["end"]) == (
        "SPEAKER_00",
        "Oh.",
        0.0,
        1.0,
    )
    assert row["emotion"]["label"] == "neutral"


async def test_a_file_is_scored_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever one ends, the result is the same."""
    whole, portions = tmp_path / "whole.jsonl", tmp_path / "portions.jsonl"
    source = FILES / "csv" / "broken-rows.csv"
    await score(source, whole)
    monkeypatch.setattr(offline, "DIALOGUES_AT_ONCE", 1)

    await score(source, portions)

    assert portions.read_bytes() == whole.read_bytes()
    assert [*map(set, lines_of(whole))] == [{"error"}] * 3 + [{"id", "utterances"}]


async def test_a_table_has_the_labels_of_the_label_space(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"

    await score(FILES / "contact-lens" / "call.json", target)

    rows = [*csv.DictReader(target.read_text("utf-8").splitlines())]
    assert [row["role"] for row in rows] == ["agent", "customer", "agent"]
    labels = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
    assert [name for name in rows[0] if name.startswith("p_")] == [f"p_{name}" for name in labels]
    for row in rows:
        assert sum(float(row[f"p_{name}"]) for name in labels) == pytest.approx(1)
        assert float(row["confidence"]) == max(float(row[f"p_{name}"]) for name in labels)


async def test_joined_segments_are_scored_as_one(tmp_path: Path) -> None:
    """And a player shows them as one."""
    source, target = FILES / "whisperx" / "whisper.json", tmp_path / "out.vtt"

    scored = await score(source, target, Joining(within_s=1.0))

    assert scored.utterances == 1
    assert target.read_text("utf-8") == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:04.000\n"
        "<v unknown><c.neutral>The lamp is broken. I can mend it.</c></v>\n"
    )


async def test_a_result_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file appears when it is complete."""
    target = tmp_path / "out.csv"
    assert output_of(target) is Output.CSV

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(offline, "document", fail)
    with pytest.raises(OSError, match="no space left"):
        await score(FILES / "csv" / "calls.csv", target)
    assert files_in(tmp_path) == []
