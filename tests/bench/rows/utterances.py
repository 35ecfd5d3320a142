"""Row e: utterances as they are spoken, POST /dialogues/{id}/utterances.

Closed, at 1, 8 and 64 conversations that speak on as soon as they are answered; then open, turns
arriving by chance at shares of the rate that 64 conversations reached.
"""

import json
import statistics
from collections.abc import Coroutine, Iterable, Iterator
from urllib.parse import quote

import uvloop

from service.conversation.dialogue import Dialogue
from tests.bench.client import Client, request
from tests.bench.load import Sample, closed_loop, open_loop, poisson_arrivals
from tests.bench.measuring import Measurement
from tests.bench.passes import WARM_UP, dialogues_from
from tests.bench.processes import HOST, service
from tests.bench.rows.engine import ONE_AT_A_TIME
from tests.bench.rows.observed import Window, observed
from tests.bench.setup import Setup

MANY = 64
_SOME = 8
_SHARES = (25, 50, 75, 100)  # of the closed loop's rate, in percent
_WARM_UP_CALLERS = 16


def measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    return uvloop.run(_measure(setup, demonstrations))


async def _measure(setup: Setup, demonstrations: bool) -> list[Measurement]:
    _, space = setup.load_bundle()
    passes = setup.passes

    def requests_of(dialogues: Iterable[Dialogue]) -> Iterator[list[bytes]]:
        return (_requests(dialogue, space.name) for dialogue in dialogues)

    # Every load goes on where the last one ended: no dialogue is said twice.
    fresh = requests_of(dialogues_from(passes, ONE_AT_A_TIME + 1))
    turns = statistics.mean(len(dialogue.utterances) for dialogue in passes(WARM_UP))
    closed = Window(setup.ramp_s, setup.closed_s)
    opened = Window(setup.ramp_s, setup.open_s)
    with service(setup, demonstrations) as server:
        async with Client(HOST, server.port) as client:

            async def measured(
                name: str, load: Coroutine[None, None, list[Sample]], window: Window | None
            ) -> Measurement:
                return await observed(
                    server,
                    client,
                    load,
                    window,
                    row="e",
                    name=name,
                    what="POST utterances",
                    demonstrations=demonstrations,
                )

            await closed_loop(
                client.send, requests_of(passes(WARM_UP)), _WARM_UP_CALLERS, setup.ramp_s
            )
            one_by_one = closed_loop(client.send, requests_of(passes(ONE_AT_A_TIME)), 1)
            measurements = [await measured(closed_name(1), one_by_one, None)]
            for conversations in (_SOME, MANY):
                load = closed_loop(client.send, fresh, conversations, closed.end_s)
                measurements.append(await measured(closed_name(conversations), load, closed))
            highest = measurements[-1].per_second
            for share in _SHARES:
                rate = highest * share / 100
                # So many that each has had about a whole dialogue when the window begins.
                conversations = max(1, round(rate * opened.ramp_s / turns))
                arrivals = poisson_arrivals(rate, opened.end_s, conversations, seed=share)
                load = open_loop(client.send, arrivals, fresh)
                measurements.append(await measured(f"open, {share}%: {rate:.0f}/s", load, opened))
    return measurements


def closed_name(conversations: int) -> str:
    """What a closed loop is called in the table."""
    return f"closed, {conversations}"


def _requests(dialogue: Dialogue, label_space: str) -> list[bytes]:
    return [
        request(
            "POST",
            f"/dialogues/{quote(dialogue.id, safe='')}/utterances",
            json.dumps({"speaker": u.speaker, "text": u.text, "label_space": label_space}).encode(),
        )
        for u in dialogue.utterances
    ]
