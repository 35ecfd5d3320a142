"""A process of its own that says lines in dialogues.

`python -m tests.sessions.appender URL SPEAKER COUNT DIALOGUES` appends COUNT lines to each of
DIALOGUES dialogues, to all of them at once, and prints a dialogue's number and the index of a line
once the store says that the line is on disk.
"""

import asyncio
import sys

from service.sessions.database import open_database
from service.sessions.store import Conflict, SessionStore


async def say(store: SessionStore, number: int, speaker: str, count: int) -> None:
    appended = 0
    while appended < count:
        tail = await store.tail("default", f"call-{number}", speaker, lines=3)
        try:
            stored = await store.append(
                tail,
                text=f"line {appended} of {speaker}",
                label_space="meld",
                prediction={"label": "neutral"},
            )
        except Conflict:
            continue
        print(number, stored.utterance.index, flush=True)
        appended += 1


async def main(url: str, speaker: str, count: int, dialogues: int) -> None:
    store = SessionStore(open_database(url))
    await asyncio.gather(*(say(store, number, speaker, count) for number in range(dialogues)))
    await store.close()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
