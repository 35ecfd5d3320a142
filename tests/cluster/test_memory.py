"""The memory of the command does not grow with the archive."""

import os
from functools import partial
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="scoring on a cluster needs the extra `cluster`")

from tests.cluster.test_disturbances import Run, line, run

DIALOGUES = int(os.environ.get("ERC_TEST_ARCHIVE_DIALOGUES", "0"))
FILES = 100
MOST_GROWTH_MIB = 20.0


def _has_parts(job: Run, count: int) -> bool:
    return len(job.parts()) >= count


@pytest.mark.skipif(
    DIALOGUES < 10_000,
    reason="minutes; ERC_TEST_ARCHIVE_DIALOGUES=100000 says of how many dialogues",
)
def test_memory_is_flat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an archive of a hundred files, between a tenth of it and its end."""
    archive = tmp_path / "archive"
    archive.mkdir()
    each = DIALOGUES // FILES
    for file in range(FILES):
        lines = [line(f"d{file}-{n}", f"Number {n} rings.") for n in range(each)]
        (archive / f"{file:03}.jsonl").write_text("".join(lines))
    sizes: dict[int, float] = {}

    with run(
        archive,
        tmp_path / "out.jsonl",
        tmp_path / "pids",
        STAND_IN_PAUSE_S="0",
        STAND_IN_BLOCK="256",
    ) as job:
        command = psutil.Process(job.process.pid)
        blocks = -(-each * FILES // 256)
        for tenth in range(1, 11):
            done = min(blocks * tenth // 10, blocks - 4)
            job.wait_for(partial(_has_parts, job, done))
            sizes[tenth] = command.memory_info().rss / 2**20
        output = job.output()

    assert job.process.returncode == 0, output
    with capsys.disabled():
        print("\nMiB by tenths:", {tenth: round(size) for tenth, size in sizes.items()})
        print(*[text for text in output.splitlines() if "utterances/s" in text][-1:])
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == each * FILES
    assert sizes[10] - sizes[1] < MOST_GROWTH_MIB
