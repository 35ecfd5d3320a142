"""What the store calls stored outlives the process, and processes share a dialogue."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from service.sessions.database import Database
from service.sessions.store import SessionStore

ROOT = Path(__file__).parents[2]
APPENDER = "tests.sessions.appender"


async def start(url: str, speaker: str, count: int, dialogues: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        APPENDER,
        url,
        speaker,
        str(count),
        str(dialogues),
        stdout=PIPE,
        cwd=ROOT,
    )


@pytest.mark.parametrize("dialogues", [1, 20])
async def test_a_killed_process_loses_nothing_it_reported(
    database: Database, url: str, dialogues: int
) -> None:
    """SIGKILL in the middle of appending, where many appends share a commit and where each has its
    own: every line it printed is there, without a gap.
    """
    process = await start(url, "Ann", 1_000_000, dialogues)
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(30 * dialogues)]
    process.kill()
    rest = await process.stdout.read()
    lines += [line for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    await process.wait()

    store = SessionStore(database)
    for number in range(dialogues):
        printed = [int(i) for n, i in map(bytes.split, lines) if int(n) == number]
        timeline = (await store.timeline("default", f"call-{number}")).utterances
        assert printed == list(range(len(printed)))
        assert [u.text for u in timeline] == [f"line {n} of Ann" for n in range(len(timeline))]
        # The last append may have been stored and not yet printed.
        assert len(timeline) - len(printed) in (0, 1)


async def test_two_processes_share_dialogues_without_gap_or_double(
    database: Database, url: str
) -> None:
    """Every line of both is there once, each process's own in order."""
    processes = [await start(url, speaker, 15, 3) for speaker in ("Ann", "Ben")]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))

    assert [p.returncode for p in processes] == [0, 0]
    printed = [line.split() for output, _ in outputs for line in output.splitlines()]
    store = SessionStore(database)
    for number in range(3):
        timeline = (await store.timeline("default", f"call-{number}")).utterances
        indexes = sorted(int(index) for n, index in printed if int(n) == number)
        assert indexes == [u.index for u in timeline] == list(range(30))
        for speaker in ("Ann", "Ben"):
            own = [u for u in timeline if u.speaker == speaker]
            assert [u.text for u in own] == [f"line {n} of {speaker}" for n in range(15)]
            assert len({u.speaker_index for u in own}) == 1
