"""What the store calls stored outlives the process, and processes share a dialogue."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from service.sessions.store import SessionStore

ROOT = Path(__file__).parents[2]
APPENDER = "tests.sessions.appender"


async def start(url: str, speaker: str, count: int) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        APPENDER,
        url,
        speaker,
        str(count),
        stdout=PIPE,
        cwd=ROOT,
    )


async def test_a_killed_process_loses_nothing_it_reported(engine: AsyncEngine, url: str) -> None:
    """SIGKILL in the middle of appending: each index it printed is there, without a gap."""
    process = await start(url, "Ann", 1_000_000)
    assert process.stdout is not None
    printed = [int(await process.stdout.readline()) for _ in range(30)]
    process.kill()
    rest = await process.stdout.read()
    printed += [int(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
    await process.wait()

    timeline = (await SessionStore(engine).timeline("call-42")).utterances

    assert printed == list(range(len(printed)))
    assert [u.text for u in timeline] == [f"line {n} of Ann" for n in range(len(timeline))]
    # The last append may have been stored and not yet printed.
    assert len(timeline) - len(printed) in (0, 1)


async def test_two_processes_share_a_dialogue_without_gap_or_double(
    engine: AsyncEngine, url: str
) -> None:
    """Every line of both is there once, each process's own in order."""
    processes = [await start(url, speaker, 15) for speaker in ("Ann", "Ben")]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))

    timeline = (await SessionStore(engine).timeline("call-42")).utterances

    assert [p.returncode for p in processes] == [0, 0]
    printed = [int(index) for output, _ in outputs for index in output.split()]
    assert sorted(printed) == [u.index for u in timeline] == list(range(30))
    for speaker in ("Ann", "Ben"):
        said = [u for u in timeline if u.speaker == speaker]
        assert [u.text for u in said] == [f"line {n} of {speaker}" for n in range(15)]
        assert len({u.speaker_index for u in said}) == 1
