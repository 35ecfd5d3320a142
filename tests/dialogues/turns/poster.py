"""A process of its own that takes turns.

`python -m tests.dialogues.turns.poster URL SPEAKER` says 250 lines in the dialogue `one`, 250 lines
over the dialogues `many-0` to `many-99`, all of them at once, and 20 lines in `shared` under keys
that every such process sends. It prints the dialogue and the index of each line that is on disk.
"""

import asyncio
import sys

from service.conversation.dialogue import Utterance
from service.dialogues.turns import TurnTaker
from service.errors import DialogueBusy
from service.sessions.database import open_database
from service.sessions.idempotency import AlreadyAnswered, Answer, Key, Once
from service.sessions.records import StoredUtterance
from service.sessions.store import SessionStore
from tests.dialogues.turns.scripted import turns_on


async def post(turns: TurnTaker, dialogue: str, speaker: str, text: str, key: str = "") -> None:
    """As a client does that is told to come back later, under its key if it has one."""
    once = Once(Key("one", key, text), _answer) if key else None
    while True:
        try:
            turn = await turns.take("one", dialogue, Utterance(speaker, text), "meld", once=once)
        except AlreadyAnswered as already:
            print(dialogue, already.answer.body, flush=True)
            return
        except DialogueBusy:
            continue
        print(dialogue, turn.appended.utterance.index, flush=True)
        return


def _answer(stored: StoredUtterance) -> Answer:
    return Answer(201, str(stored.index))


async def main(url: str, speaker: str) -> None:
    store = SessionStore(open_database(url))
    turns = turns_on(store)
    posts = [post(turns, "one", speaker, f"line {n} of {speaker}") for n in range(250)]
    posts += [post(turns, f"many-{n % 100}", speaker, f"line {n} of {speaker}") for n in range(250)]
    posts += [post(turns, "shared", "Cem", f"line {n}", f"key-{n}") for n in range(20)]
    await asyncio.gather(*posts)
    await store.close()


asyncio.run(main(sys.argv[1], sys.argv[2]))
