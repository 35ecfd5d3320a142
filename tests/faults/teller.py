"""A process that takes turns and tells of matches, like the service without HTTP and vLLM.

Its engine favours a random label of each utterance.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from service.conversation.derived import load_derived_label_spaces
from service.conversation.dialogue import Utterance
from service.decoding.engine import Reading
from service.dialogues.rules import RuleReader
from service.dialogues.webhooks import WebhookSender
from service.priority import Priority
from service.rules.posting import Poster
from service.rules.rulebook import Rulebook
from service.sessions.database import open_database
from service.sessions.store import SessionStore
from tests.dialogues.turns.scripted import FOLDER, SPACES, Undecided, turns_on

TENANT = "acme"
DIALOGUES = tuple(f"call-{number}" for number in range(4))
LEASE_S = 3.0
_FAVOURED = 0.7


class Moody(Undecided):
    """A label engine that favours any label."""

    async def read(
        self,
        prompt: Sequence[int],
        candidates: Sequence[int],
        priority: Priority,
        *,
        salt: str | None = None,
    ) -> Reading:
        rest = math.log((1 - _FAVOURED) / (len(candidates) - 1))
        likely = [rest] * len(candidates)
        likely[random.randrange(len(candidates))] = math.log(_FAVOURED)
        return Reading(tuple(likely), cached_tokens=0)


def run(url: str, rules_file: Path, seed: int, *, is_quiet: bool) -> None:
    """Deliver webhooks and, unless it is quiet, take turns in each dialogue, for ever."""
    random.seed(seed)
    asyncio.run(_run(url, rules_file, is_quiet=is_quiet))


async def _run(url: str, rules_file: Path, *, is_quiet: bool) -> None:
    store = SessionStore(open_database(url))
    derived = load_derived_label_spaces(FOLDER, SPACES)
    rulebook = Rulebook(rules_file, {**SPACES, **derived})
    sender = WebhookSender(
        store.webhooks, rulebook, Poster().post, lambda _: None, 3600.0, lease_s=LEASE_S
    )
    reader = RuleReader(rulebook, store.webhooks, lambda _: None, sender.wake)
    turns = turns_on(store, Moody(), reader)

    async def talk(dialogue_id: str) -> None:
        for number in count():
            await turns.take(TENANT, dialogue_id, Utterance("Ann", f"line {number}"), "meld")

    async with asyncio.TaskGroup() as group:
        group.create_task(sender.run())
        for dialogue_id in () if is_quiet else DIALOGUES:
            group.create_task(talk(dialogue_id))
