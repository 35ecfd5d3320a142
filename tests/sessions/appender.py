"""A process of its own that says lines in a dialogue.

`python -m tests.sessions.appender URL SPEAKER COUNT` appends COUNT lines
and prints the index of each line once the store says that the line is on disk.
"""

import asyncio
import sys

from service.sessions.database import open_database
from service.sessions.store import Conflict, SessionStore


async def main(url: str, speaker: str, count: int) -> None:
    store = SessionStore(open_database(url))
    said = 0
    while said < count:
        tail = await store.tail("call-42", speaker, lines=3)
        try:
            stored = await store.append(
                "call-42",
                tail.length,
                speaker=speaker,
                speaker_index=tail.speaker_index,
                text=f"line {said} of {speaker}",
                label_space="meld",
                prediction={"label": "neutral"},
            )
        except Conflict:
            continue
        print(stored.index, flush=True)
        said += 1
    await store.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
