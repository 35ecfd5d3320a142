"""Two processes on one PostgreSQL take turns in the same dialogues."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections import defaultdict
from pathlib import Path

from service.sessions.database import open_database
from service.sessions.migrate import migrate
from service.sessions.store import SessionStore

ROOT = Path(__file__).parents[3]


async def test_two_processes_take_turns_without_gap_or_double(postgres_url: str) -> None:
    """500 turns of one dialogue and 500 over 100: each is stored once, with an index of its own.
    What both send under the same key is stored once, and both are told the same index.
    """
    database = open_database(postgres_url)
    await migrate(database)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.dialogues.turns.poster",
            postgres_url,
            name,
            stdout=PIPE,
            cwd=ROOT,
        )
        for name in ("Ann", "Ben")
    ]
    outputs = await asyncio.gather(*(process.communicate() for process in processes))
    assert [process.returncode for process in processes] == [0, 0]
    told: dict[str, list[int]] = defaultdict(list)
    for output, _ in outputs:
        for line in output.decode().splitlines():
            dialogue, index = line.split()
            told[dialogue].append(int(index))

    store = SessionStore(database)
    assert sum(len(indexes) for name, indexes in told.items() if name != "shared") == 1000
    for name, indexes in told.items():
        timeline = await store.timeline("one", name)
        length = 20 if name == "shared" else len(indexes)
        assert [u.index for u in timeline.utterances] == list(range(length))
        assert sorted(indexes) == sorted([*range(length)] * (2 if name == "shared" else 1))
        assert len({(u.speaker, u.text) for u in timeline.utterances}) == length
        assert timeline.version.number == timeline.length == length
    await store.close()
